/*
 * Checks a bundle on a device without Python: `runner - verify BUNDLE KEY...`, each KEY the 64
 * hexadecimal digits of a public key that is believed. The archive's form, the signature and every
 * file are checked as release/verify_file.py does; the codes are the same, and a bundle that is
 * refused ends it with status 7. Left out, because nothing is written here: what names are to
 * other file systems, and the memory of older releases (the counter is printed). Results are
 *
 *   release NAME VERSION COUNTER SHA256
 *   signed KEY_ID                        for each believed key that signed
 */
#include "release.h"
#include "runner.h"

#include <stdlib.h>
#include <string.h>

#define MOST_SIGNATURES 16

static const char *const own[] = {"SHA256SUMS", "manifest.dsse.json", "manifest.json"};
static const char kind[] = "application/vnd.edgedeploy.release+json";
static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

typedef struct {
    char id[65];
    unsigned char bytes[64];
    int believed;
} signature;

static signature signatures[MOST_SIGNATURES];
static size_t signature_count;

static void write_hex(char *to, const unsigned char *bytes) {
    int i;
    for (i = 0; i < 32; i++)
        snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

/* Write bytes as base64 with its padding; returns the length. */
static size_t write_base64(char *to, const unsigned char *from, size_t size) {
    size_t i, length = 0;
    for (i = 0; i < size; i += 3) {
        uint32_t word = (uint32_t)from[i] << 16;
        word |= i + 1 < size ? (uint32_t)from[i + 1] << 8 : 0;
        word |= i + 2 < size ? from[i + 2] : 0;
        to[length++] = letters[word >> 18];
        to[length++] = letters[word >> 12 & 63];
        to[length++] = i + 1 < size ? letters[word >> 6 & 63] : '=';
        to[length++] = i + 2 < size ? letters[word & 63] : '=';
    }
    return length;
}

/* Read the 64 bytes that 88 letters give; 0 where we would write them in another way. */
static int read_base64(unsigned char *to, const char *from) {
    char again[88];
    uint32_t word = 0;
    size_t i, length = 0;
    for (i = 0; i < 86; i++) {
        const char *found = from[i] ? strchr(letters, from[i]) : NULL;
        if (!found)
            return 0;
        word = word << 6 | (uint32_t)(found - letters);
        if (i % 4)
            to[length++] = (unsigned char)(word >> (6 - 2 * (i % 4)));
    }
    return write_base64(again, to, 64) == 88 && !memcmp(again, from, 88);
}

/* Read the signatures of an envelope; returns its payload's length, which follows `payload`. */
static size_t read_envelope(char *content, size_t size, char **payload) {
    char *at = content, *end = content + size;
    size_t length;
    int right = taken(&at, end, "{\"payload\":\"");
    *payload = at;
    length = strspn(at, letters);
    at += length;
    while (length % 4 && taken(&at, end, "="))
        length++;
    right = right && taken(&at, end, "\",\"payloadType\":\"") && taken(&at, end, kind) &&
            taken(&at, end, "\",\"signatures\":[");
    while (right && signature_count < MOST_SIGNATURES) {
        signature *s = &signatures[signature_count++];
        unsigned char id[32];
        right = taken(&at, end, "{\"keyid\":\"") && end - at > 64 + 88 && read_hex(id, at, 32);
        if (!right)
            break;
        memcpy(s->id, at, 64);
        at += 64;
        right = taken(&at, end, "\",\"sig\":\"") && end - at > 88 && read_base64(s->bytes, at);
        at += right ? 88 : 0;
        right = right && taken(&at, end, "\"}") &&
                (signature_count < 2 || strcmp(s[-1].id, s->id) < 0);
        if (!taken(&at, end, ","))
            break;
    }
    if (!right || !taken(&at, end, "]}") || at != end)
        refuse("E732", own[1], "it is no envelope of a release in the canonical form");
    return length;
}

static void check_signatures(const char *content, size_t size, char **keys, int key_count) {
    char prefix[128], id[65];
    unsigned char key[32], hashed[32];
    size_t i;
    int at, believed = 0;
    snprintf(prefix, sizeof prefix, "DSSEv1 %zu %s %zu ", strlen(kind), kind, size);
    for (at = 0; at < key_count; at++) {
        digest d;
        if (strlen(keys[at]) != 64 || !read_hex(key, keys[at], 32))
            fail(2, "a key is not 64 hexadecimal digits");
        digest_begin(&d, 0);
        digest_add(&d, key, sizeof key);
        digest_end(&d, hashed);
        write_hex(id, hashed);
        for (i = 0; i < signature_count; i++) {
            signature *s = &signatures[i];
            if (strcmp(s->id, id))
                continue;
            if (!is_signature(key, prefix, strlen(prefix), content, size, s->bytes))
                refuse("E736", own[1], "a signature is not right");
            believed = s->believed = 1;
        }
    }
    if (!believed)
        refuse("E736", "", "no trusted key vouches for it");
}

/* Whether a file before has the same content: then the archive holds that one alone. */
static int is_again(const manifest_data *m, size_t number) {
    size_t i;
    for (i = 0; i < number; i++)
        if (!memcmp(m->files[i].sha256, m->files[number].sha256, 32))
            return 1;
    return 0;
}

static void check_members(const manifest_data *m) {
    const member *found;
    size_t i, next = 0;
    for (i = 0; (found = member_at(i)); i++) {
        int ours = !strcmp(found->path, own[0]) || !strcmp(found->path, own[1]) ||
                   !strcmp(found->path, own[2]);
        while (next < m->count && strcmp(m->files[next].path, found->path) < 0)
            next++;
        if (ours ? next < m->count && !strcmp(m->files[next].path, found->path)
                 : next == m->count || strcmp(m->files[next].path, found->path) ||
                       is_again(m, next))
            refuse("E735", found->path, "it is in the archive and not in the manifest");
    }
}

static void check_sums(const manifest_data *m) {
    const member *sums = find_member(own[0]);
    unsigned char wanted[32], found[32];
    digest d;
    size_t i;
    if (sums->size > MOST_MANIFEST_BYTES)
        refuse("E731", own[0], "it is too large");
    digest_begin(&d, 0);
    for (i = 0; i < m->count; i++) {
        char id[65];
        write_hex(id, m->files[i].sha256);
        digest_add(&d, id, 64);
        digest_add(&d, "  ", 2);
        digest_add(&d, m->files[i].path, strlen(m->files[i].path));
        digest_add(&d, "\n", 1);
    }
    digest_end(&d, wanted);
    hash_member(sums, found);
    if (memcmp(wanted, found, sizeof found))
        refuse("E735", own[0], "it does not say what the manifest says");
}

static void check_files(const manifest_data *m) {
    size_t i;
    for (i = 0; i < m->count; i++) {
        const listed *file = &m->files[i];
        const member *found = find_member(file->path);
        unsigned char sha256[32];
        if (is_again(m, i))
            continue;
        if (!found)
            refuse("E735", file->path, "it is missing");
        if (found->size != file->size)
            refuse("E735", file->path, "its size is another");
        hash_member(found, sha256);
        if (memcmp(sha256, file->sha256, sizeof sha256))
            refuse("E735", file->path, "its content is another");
    }
}

void put_release(const char *path, char **keys, int key_count) {
    manifest_data m;
    unsigned char hashed[32];
    char id[65], *content, *envelope, *payload, *encoded;
    size_t i, size, length;
    digest d;
    open_archive(path);
    for (i = 0; i < 3; i++)
        if (!find_member(own[i]))
            refuse("E735", own[i], "it is missing");
    content = read_whole(find_member(own[2]), MOST_MANIFEST_BYTES);
    size = (size_t)find_member(own[2])->size;
    envelope = read_whole(find_member(own[1]), 2 * MOST_MANIFEST_BYTES);
    length = read_envelope(envelope, (size_t)find_member(own[1])->size, &payload);
    encoded = grown(NULL, size / 3 * 4 + 4, 1);
    if (write_base64(encoded, (unsigned char *)content, size) != length ||
        memcmp(encoded, payload, length))
        refuse("E735", own[2], "it is not what was signed");
    check_signatures(content, size, keys, key_count);
    digest_begin(&d, 0);
    digest_add(&d, content, size);
    digest_end(&d, hashed);
    write_hex(id, hashed);
    read_manifest(&m, content, size);
    check_members(&m);
    check_sums(&m);
    check_files(&m);
    fprintf(out, "release %s %s %lld %s\n", m.name, m.version, (long long)m.counter, id);
    for (i = 0; i < signature_count; i++)
        if (signatures[i].believed)
            fprintf(out, "signed %s\n", signatures[i].id);
}
