/* What checks a release on a device without Python; release.c says how. */
#ifndef EDGEDEPLOY_RELEASE_H
#define EDGEDEPLOY_RELEASE_H

#include <stddef.h>
#include <stdint.h>

#define MOST_MANIFEST_BYTES (16u << 20)

typedef struct {
    uint64_t state[8], bytes;
    unsigned char block[128];
    size_t waiting;
    int wide;
} digest;

typedef struct {
    char *path;
    uint64_t offset, size;
    uint32_t crc;
} member;

typedef struct {
    char *path;
    uint64_t size;
    unsigned char sha256[32];
} listed;

typedef struct {
    char *name, *version;
    int64_t counter;
    listed *files;
    size_t count;
} manifest_data;

/* digest.c: SHA-256, or SHA-512 where `wide`. */
void digest_begin(digest *d, int wide);
void digest_add(digest *d, const void *data, size_t size);
void digest_end(digest *d, unsigned char *into);

/* signature.c: whether `prefix` and `message` together were signed; key 32 bytes, signature 64. */
int is_signature(const unsigned char *key, const void *prefix, size_t prefix_size,
                 const void *message, size_t size, const unsigned char *signature);

/* archive.c: members are sorted by path. */
void refuse(const char *code, const char *path, const char *why) __attribute__((noreturn));
void open_archive(const char *path);
const member *find_member(const char *path);
const member *member_at(size_t number);
void hash_member(const member *m, unsigned char *sha256);
char *read_whole(const member *m, size_t limit);

/* manifest.c: changes the text; paths point into it. */
void read_manifest(manifest_data *found, char *text, size_t size);
int read_hex(unsigned char *to, const char *text, size_t bytes);
int taken(char **at, const char *end, const char *literal);

/* release.c */
void put_release(const char *path, char **keys, int key_count);

#endif
