/*
 * Checks a bundle on a device without Python: `runner - verify BUNDLE KEY...`, each KEY the 64
 * hexadecimal digits of a public key that is believed; or the folder that one was extracted into.
 * The archive's form, the signature and every file are checked as release/verify_file.py does; the
 * codes are the same, and a bundle that is refused ends it with status 7. Left out, because nothing is written here: what names are to
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

/* Whether a key signed; -1 where a signature claims that and is not right. */
static int has_signed(const public_key *key, const signed_manifest *found) {
    char prefix[128];
    size_t i;
    int right = 0;
    snprintf(prefix, sizeof prefix, "DSSEv1 %zu %s %zu ", strlen(kind), kind, found->size);
    for (i = 0; i < signature_count; i++) {
        signature *s = &signatures[i];
        if (strcmp(s->id, key->id))
            continue;
        if (!is_signature(key->bytes, prefix, strlen(prefix), found->content, found->size,
                          s->bytes))
            return -1;
        right = s->believed = 1;
    }
    return right;
}

static void refuse_signers(const signed_manifest *found, const key_list *revoked, int wrong) {
    size_t i;
    for (i = 0; i < revoked->count; i++)
        if (has_signed(&revoked->keys[i], found) > 0) {
            char why[512];
            snprintf(why, sizeof why, "%.16s signed it, and was revoked: %.200s",
                     revoked->keys[i].id, revoked->keys[i].why);
            refuse("E746", "", why);
        }
    if (wrong)
        refuse("E736", own[1], "a signature is not right");
    refuse("E736", "", "no trusted key vouches for it");
}

/* Read a manifest once it is known that a believed key signed it. */
void check_signed(signed_manifest *found, const key_list *believed, const key_list *revoked) {
    size_t i;
    int signers = 0, wrong = 0;
    for (i = 0; i < believed->count; i++) {
        int said = has_signed(&believed->keys[i], found);
        wrong |= said < 0;
        signers += said > 0;
    }
    if (wrong || !signers)
        refuse_signers(found, revoked, wrong);
    read_manifest(&found->data, found->content, found->size);
}

int is_signer(const char *id) {
    size_t i;
    for (i = 0; i < signature_count; i++)
        if (signatures[i].believed && !strcmp(signatures[i].id, id))
            return 1;
    return 0;
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
                       (!is_folder() && is_again(m, next)))
            refuse("E735", found->path, "it is there and not in the manifest");
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
        if (!is_folder() && is_again(m, i))
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

/* Read a manifest and the signatures that vouch for it; both are members. */
void read_signed(signed_manifest *found, const char *manifest, const char *envelope) {
    const member *m = find_member(manifest), *e = find_member(envelope);
    unsigned char hashed[32];
    char *content, *payload, *encoded;
    size_t length;
    digest d;
    if (!m || !e)
        refuse("E735", m ? envelope : manifest, "it is missing");
    memset(found, 0, sizeof *found);
    found->content = read_whole(m, MOST_MANIFEST_BYTES);
    found->size = (size_t)m->size;
    content = read_whole(e, 2 * MOST_MANIFEST_BYTES);
    length = read_envelope(content, (size_t)e->size, &payload);
    encoded = grown(NULL, found->size / 3 * 4 + 4, 1);
    if (write_base64(encoded, (unsigned char *)found->content, found->size) != length ||
        memcmp(encoded, payload, length))
        refuse("E735", manifest, "it is not what was signed");
    digest_begin(&d, 0);
    digest_add(&d, found->content, found->size);
    digest_end(&d, hashed);
    write_hex(found->id, hashed);
}

void put_signed(const signed_manifest *found) {
    const manifest_data *m = &found->data;
    size_t i;
    fprintf(out, "release %s %s %lld %s\n", m->name, m->version, (long long)m->counter, found->id);
    for (i = 0; i < signature_count; i++)
        if (signatures[i].believed)
            fprintf(out, "signed %s\n", signatures[i].id);
}

void put_release(const char *path, char **keys, int key_count) {
    signed_manifest found;
    key_list believed = {0}, revoked = {0};
    size_t i;
    int at;
    open_release(path);
    for (i = 0; i < 3; i++)
        if (!find_member(own[i]))
            refuse("E735", own[i], "it is missing");
    read_signed(&found, own[2], own[1]);
    for (at = 0; at < key_count; at++)
        if (strlen(keys[at]) != 64 || !add_key(&believed, keys[at], NULL))
            fail(2, "a key is not 64 hexadecimal digits");
    check_signed(&found, &believed, &revoked);
    check_members(&found.data);
    check_sums(&found.data);
    check_files(&found.data);
    put_signed(&found);
}
