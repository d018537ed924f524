/* SHA-256 and SHA-512 (FIPS 180-4). */
#include "release.h"

#include <string.h>

/*
 * The constants of SHA-512: fractional bits of the cube roots of the first 80 primes, and of the
 * square roots of the first 8. Those of SHA-256 are the upper halves of the first 64, and of all 8.
 */
static const uint64_t roots[80] = {
    0x428a2f98d728ae22ULL, 0x7137449123ef65cdULL, 0xb5c0fbcfec4d3b2fULL, 0xe9b5dba58189dbbcULL,
    0x3956c25bf348b538ULL, 0x59f111f1b605d019ULL, 0x923f82a4af194f9bULL, 0xab1c5ed5da6d8118ULL,
    0xd807aa98a3030242ULL, 0x12835b0145706fbeULL, 0x243185be4ee4b28cULL, 0x550c7dc3d5ffb4e2ULL,
    0x72be5d74f27b896fULL, 0x80deb1fe3b1696b1ULL, 0x9bdc06a725c71235ULL, 0xc19bf174cf692694ULL,
    0xe49b69c19ef14ad2ULL, 0xefbe4786384f25e3ULL, 0x0fc19dc68b8cd5b5ULL, 0x240ca1cc77ac9c65ULL,
    0x2de92c6f592b0275ULL, 0x4a7484aa6ea6e483ULL, 0x5cb0a9dcbd41fbd4ULL, 0x76f988da831153b5ULL,
    0x983e5152ee66dfabULL, 0xa831c66d2db43210ULL, 0xb00327c898fb213fULL, 0xbf597fc7beef0ee4ULL,
    0xc6e00bf33da88fc2ULL, 0xd5a79147930aa725ULL, 0x06ca6351e003826fULL, 0x142929670a0e6e70ULL,
    0x27b70a8546d22ffcULL, 0x2e1b21385c26c926ULL, 0x4d2c6dfc5ac42aedULL, 0x53380d139d95b3dfULL,
    0x650a73548baf63deULL, 0x766a0abb3c77b2a8ULL, 0x81c2c92e47edaee6ULL, 0x92722c851482353bULL,
    0xa2bfe8a14cf10364ULL, 0xa81a664bbc423001ULL, 0xc24b8b70d0f89791ULL, 0xc76c51a30654be30ULL,
    0xd192e819d6ef5218ULL, 0xd69906245565a910ULL, 0xf40e35855771202aULL, 0x106aa07032bbd1b8ULL,
    0x19a4c116b8d2d0c8ULL, 0x1e376c085141ab53ULL, 0x2748774cdf8eeb99ULL, 0x34b0bcb5e19b48a8ULL,
    0x391c0cb3c5c95a63ULL, 0x4ed8aa4ae3418acbULL, 0x5b9cca4f7763e373ULL, 0x682e6ff3d6b2b8a3ULL,
    0x748f82ee5defb2fcULL, 0x78a5636f43172f60ULL, 0x84c87814a1f0ab72ULL, 0x8cc702081a6439ecULL,
    0x90befffa23631e28ULL, 0xa4506cebde82bde9ULL, 0xbef9a3f7b2c67915ULL, 0xc67178f2e372532bULL,
    0xca273eceea26619cULL, 0xd186b8c721c0c207ULL, 0xeada7dd6cde0eb1eULL, 0xf57d4f7fee6ed178ULL,
    0x06f067aa72176fbaULL, 0x0a637dc5a2c898a6ULL, 0x113f9804bef90daeULL, 0x1b710b35131c471bULL,
    0x28db77f523047d84ULL, 0x32caab7b40c72493ULL, 0x3c9ebe0a15c9bebcULL, 0x431d67c49c100d4cULL,
    0x4cc5d4becb3e42b6ULL, 0x597f299cfc657e2aULL, 0x5fcb6fab3ad6faecULL, 0x6c44198c4a475817ULL,
};

static const uint64_t start[8] = {
    0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
    0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL,
};

static uint64_t turned(uint64_t x, int by, int bits) {
    uint64_t mask = bits == 64 ? ~0ULL : 0xFFFFFFFFULL;
    return ((x >> by) | (x << (bits - by))) & mask;
}

/* Take in one block: 64 bytes of SHA-256, 128 of SHA-512. The two differ in sizes and turns. */
static void block(digest *d, const unsigned char *data) {
    static const int turns[2][12] = {{7, 18, 3, 17, 19, 10, 6, 11, 25, 2, 13, 22},
                                     {1, 8, 7, 19, 61, 6, 14, 18, 41, 28, 34, 39}};
    int bits = d->wide ? 64 : 32, rounds = d->wide ? 80 : 64, t, i;
    const int *r = turns[d->wide];
    uint64_t mask = d->wide ? ~0ULL : 0xFFFFFFFFULL, w[80], v[8];
    for (t = 0; t < 16; t++)
        for (w[t] = 0, i = 0; i < bits / 8; i++)
            w[t] = w[t] << 8 | *data++;
    for (; t < rounds; t++) {
        uint64_t a = w[t - 15], b = w[t - 2];
        a = turned(a, r[0], bits) ^ turned(a, r[1], bits) ^ a >> r[2];
        b = turned(b, r[3], bits) ^ turned(b, r[4], bits) ^ b >> r[5];
        w[t] = (w[t - 16] + a + w[t - 7] + b) & mask;
    }
    memcpy(v, d->state, sizeof v);
    for (t = 0; t < rounds; t++) {
        uint64_t e = v[4], a = v[0], one, two;
        one = turned(e, r[6], bits) ^ turned(e, r[7], bits) ^ turned(e, r[8], bits);
        one += v[7] + ((e & v[5]) ^ (~e & v[6])) + w[t];
        one += d->wide ? roots[t] : roots[t] >> 32;
        two = turned(a, r[9], bits) ^ turned(a, r[10], bits) ^ turned(a, r[11], bits);
        two += (a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]);
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] = (v[4] + one) & mask;
        v[0] = (one + two) & mask;
    }
    for (i = 0; i < 8; i++)
        d->state[i] = (d->state[i] + v[i]) & mask;
}

void digest_begin(digest *d, int wide) {
    int i;
    memset(d, 0, sizeof *d);
    d->wide = wide != 0;
    for (i = 0; i < 8; i++)
        d->state[i] = wide ? start[i] : start[i] >> 32;
}

void digest_add(digest *d, const void *data, size_t size) {
    const unsigned char *from = data;
    size_t whole = d->wide ? 128 : 64;
    d->bytes += size;
    while (size) {
        size_t part = whole - d->waiting < size ? whole - d->waiting : size;
        memcpy(d->block + d->waiting, from, part);
        d->waiting += part;
        from += part;
        size -= part;
        if (d->waiting == whole) {
            block(d, d->block);
            d->waiting = 0;
        }
    }
}

/* Write the digest: 32 bytes of SHA-256, 64 of SHA-512. */
void digest_end(digest *d, unsigned char *out) {
    static const unsigned char padding[128] = {0x80};
    unsigned char length[16] = {0};
    size_t whole = d->wide ? 128 : 64, tail = d->wide ? 16 : 8, i, size = d->wide ? 8 : 4;
    uint64_t bits = d->bytes * 8;
    digest_add(d, padding, (2 * whole - tail - d->waiting - 1) % whole + 1);
    for (i = 0; i < 8; i++)
        length[tail - 1 - i] = (unsigned char)(bits >> 8 * i);
    digest_add(d, length, tail);
    for (i = 0; i < 8 * size; i++)
        out[i] = (unsigned char)(d->state[i / size] >> 8 * (size - 1 - i % size));
}
