/*
 * Ed25519 verification (RFC 8032, 5.1.7, without the cofactor). Everything here is public, so that
 * nothing has to take the same time for all inputs.
 */
#include "release.h"

#include <string.h>

/* A number modulo p = 2^255 - 19, below 2^256: eight words, the lowest first. */
typedef uint32_t field[8];
typedef struct {
    field x, y, z, t;
} point;

static const field prime = {0xFFFFFFED, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x7FFFFFFF};
static const field order = {0x5CF5D3ED, 0x5812631A, 0xA2F79CD6, 0x14DEF9DE, 0, 0, 0, 0x10000000};
static const field zero = {0}, one = {1};

static int at_least(const field a, const field b) {
    int i;
    for (i = 7; i > 0 && a[i] == b[i]; i--)
        ;
    return a[i] >= b[i];
}

static void take(field r, const field a) {
    int64_t carry = 0;
    int i;
    for (i = 0; i < 8; i++) {
        carry += (int64_t)r[i] - a[i];
        r[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

/* Add what is above 2^256, which is 38 times as much modulo p. */
static void fold(field r, uint64_t above) {
    int i;
    while (above) {
        uint64_t carry = above * 38;
        for (i = 0; i < 8; i++) {
            carry += r[i];
            r[i] = (uint32_t)carry;
            carry >>= 32;
        }
        above = carry;
    }
}

static void plus(field r, const field a, const field b) {
    uint64_t carry = 0;
    int i;
    for (i = 0; i < 8; i++) {
        carry += (uint64_t)a[i] + b[i];
        r[i] = (uint32_t)carry;
        carry >>= 32;
    }
    fold(r, carry);
}

static void minus(field r, const field a, const field b) {
    int64_t carry = 0;
    int i;
    for (i = 0; i < 8; i++) {
        carry += (int64_t)a[i] - b[i];
        r[i] = (uint32_t)carry;
        carry >>= 32;
    }
    while (carry) { /* borrowed 2^256: 38 too many */
        carry = -38;
        for (i = 0; i < 8; i++) {
            carry += r[i];
            r[i] = (uint32_t)carry;
            carry >>= 32;
        }
    }
}

static void times(field r, const field a, const field b) {
    uint32_t all[16] = {0};
    uint64_t carry;
    int i, j;
    for (i = 0; i < 8; i++) {
        for (carry = 0, j = 0; j < 8; j++) {
            carry += (uint64_t)a[i] * b[j] + all[i + j];
            all[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        all[i + 8] = (uint32_t)carry;
    }
    for (carry = 0, i = 0; i < 8; i++) {
        carry += (uint64_t)all[i + 8] * 38 + all[i];
        r[i] = (uint32_t)carry;
        carry >>= 32;
    }
    fold(r, carry);
}

/* Raise to a power: the exponent is p less `less`, halved `halvings` times. */
static void power(field r, const field a, uint32_t less, int halvings) {
    field exponent, base, found;
    int i;
    memcpy(exponent, prime, sizeof exponent);
    memcpy(base, a, sizeof base);
    memcpy(found, one, sizeof found);
    exponent[0] -= less;
    for (i = 255; i >= halvings; i--) {
        times(found, found, found);
        if (exponent[i / 32] >> i % 32 & 1)
            times(found, found, base);
    }
    memcpy(r, found, sizeof found);
}

static void reduce(field r) {
    while (at_least(r, prime))
        take(r, prime);
}

static int same(const field a, const field b) {
    field difference;
    minus(difference, a, b);
    reduce(difference);
    return !memcmp(difference, zero, sizeof difference);
}

static void read_words(field r, const unsigned char *from) {
    int i;
    for (i = 0; i < 8; i++, from += 4)
        r[i] = from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* d = -121665/121666, the curve's constant. */
static void curve(field r) {
    field a = {121665}, b = {121666};
    power(b, b, 2, 0);
    times(r, a, b);
    minus(r, zero, r);
}

/* Read a point (RFC 8032, 5.1.3); 0 where the bytes are none. */
static int read_point(point *r, const unsigned char *bytes) {
    field square, below, d, root;
    uint32_t sign = bytes[31] >> 7;
    read_words(r->y, bytes);
    r->y[7] &= 0x7FFFFFFF;
    if (at_least(r->y, prime))
        return 0;
    curve(d);
    times(square, r->y, r->y);
    times(below, square, d);
    plus(below, below, one);
    power(below, below, 2, 0);
    minus(square, square, one);
    times(square, square, below);
    power(r->x, square, (uint32_t)-3, 3); /* (p + 3) / 8 */
    times(root, r->x, r->x);
    if (!same(root, square)) {
        field two = {2};
        power(two, two, 1, 2); /* a root of -1 */
        times(r->x, r->x, two);
        times(root, r->x, r->x);
    }
    if (!same(root, square))
        return 0;
    reduce(r->x);
    if (sign && !memcmp(r->x, zero, sizeof zero))
        return 0;
    if ((r->x[0] & 1) != sign)
        minus(r->x, zero, r->x);
    memcpy(r->z, one, sizeof one);
    times(r->t, r->x, r->y);
    return 1;
}

/* Add two points (5.1.4); `twice_d` is 2 d. The formula holds for equal points too. */
static void add_points(point *r, const point *p, const point *q, const field twice_d) {
    field a, b, c, d, e, f, g, h;
    minus(a, p->y, p->x);
    minus(b, q->y, q->x);
    times(a, a, b);
    plus(b, p->y, p->x);
    plus(c, q->y, q->x);
    times(b, b, c);
    times(c, p->t, q->t);
    times(c, c, twice_d);
    times(d, p->z, q->z);
    plus(d, d, d);
    minus(e, b, a);
    minus(f, d, c);
    plus(g, d, c);
    plus(h, b, a);
    times(r->x, e, f);
    times(r->y, g, h);
    times(r->t, e, h);
    times(r->z, f, g);
}

static void write_point(unsigned char *out, const point *p) {
    field inverse, x, y;
    int i;
    power(inverse, p->z, 2, 0);
    times(x, p->x, inverse);
    times(y, p->y, inverse);
    reduce(x);
    reduce(y);
    for (i = 0; i < 32; i++)
        out[i] = (unsigned char)(y[i / 4] >> 8 * (i % 4));
    out[31] = (unsigned char)(out[31] | (x[0] & 1) << 7);
}

/* The remainder of 64 bytes modulo the order of the base point. */
static void modulo_order(field r, const unsigned char *bytes) {
    int i, j;
    memset(r, 0, sizeof(field));
    for (i = 511; i >= 0; i--) {
        for (j = 7; j > 0; j--)
            r[j] = r[j] << 1 | r[j - 1] >> 31;
        r[0] = r[0] << 1 | (bytes[i / 8] >> i % 8 & 1u);
        if (at_least(r, order))
            take(r, order);
    }
}

int is_signature(const unsigned char *key, const void *prefix, size_t prefix_size,
                 const void *message, size_t size, const unsigned char *signature) {
    /* Nothing, B, -A and B - A; B is the point with y = 4/5 and an even x (5.1). */
    point table[4] = {{{0}, {1}, {1}, {0}}}, found = table[0], small;
    unsigned char bytes[64], base[32];
    field s, k, twice_d;
    digest hash;
    int i;
    memset(base, 0x66, sizeof base);
    base[0] = 0x58;
    read_words(s, signature + 32);
    if (at_least(s, order) || !read_point(&table[1], base) || !read_point(&table[2], key))
        return 0;
    curve(twice_d);
    plus(twice_d, twice_d, twice_d);
    small = table[2];
    for (i = 0; i < 3; i++)
        add_points(&small, &small, &small, twice_d);
    if (same(small.x, zero) && same(small.y, small.z))
        return 0; /* of small order: everybody can sign for it */
    minus(table[2].x, zero, table[2].x);
    minus(table[2].t, zero, table[2].t);
    add_points(&table[3], &table[1], &table[2], twice_d);
    digest_begin(&hash, 1);
    digest_add(&hash, signature, 32);
    digest_add(&hash, key, 32);
    digest_add(&hash, prefix, prefix_size);
    digest_add(&hash, message, size);
    digest_end(&hash, bytes);
    modulo_order(k, bytes);
    for (i = 252; i >= 0; i--) {
        uint32_t chosen = (s[i / 32] >> i % 32 & 1) | (k[i / 32] >> i % 32 & 1) << 1;
        add_points(&found, &found, &found, twice_d);
        if (chosen)
            add_points(&found, &found, &table[chosen], twice_d);
    }
    write_point(bytes, &found);
    return !memcmp(bytes, signature, 32);
}
