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

/* A manifest that was signed: its bytes, what they say, and their SHA-256. */
typedef struct {
    char *content;
    size_t size;
    char id[65];
    manifest_data data;
} signed_manifest;

typedef struct {
    unsigned char bytes[32];
    char id[65];
    const char *why; /* it was revoked */
} public_key;

typedef struct {
    public_key *keys;
    size_t count;
} key_list;

/* What is read, and how it is refused. */
typedef struct {
    char *at;
    const char *end, *code, *subject;
} json_reader;

/* digest.c: SHA-256, or SHA-512 where `wide`. */
void digest_begin(digest *d, int wide);
void digest_add(digest *d, const void *data, size_t size);
void digest_end(digest *d, unsigned char *into);

/* signature.c: whether `prefix` and `message` together were signed; key 32 bytes, signature 64. */
int is_signature(const unsigned char *key, const void *prefix, size_t prefix_size,
                 const void *message, size_t size, const unsigned char *signature);

/* archive.c: members are sorted by path. */
void refuse(const char *code, const char *path, const char *why) __attribute__((noreturn));
void open_release(const char *path);
void open_folder(const char *path);
int is_folder(void);
void add_member(const member *m);
const member *find_member(const char *path);
const member *member_at(size_t number);
void hash_member(const member *m, unsigned char *sha256);
char *read_whole(const member *m, size_t limit);

/* folder.c: adds the files below a folder, at most so many. */
void list_folder(const char *path, size_t most);

/* json.c: a zero byte follows the content. */
extern json_reader json;
int read_hex(unsigned char *to, const char *text, size_t bytes);
void write_hex(char *to, const unsigned char *bytes);
int taken(char **at, const char *end, const char *literal);
void json_begin(char *content, size_t size, const char *code, const char *subject);
void json_bad(const char *why) __attribute__((noreturn));
int json_has(const char *literal);
void json_need(const char *literal);
char *json_text(void);
int64_t json_whole(int64_t limit);
void json_pass(void);

/* manifest.c: changes the text; paths and names point into it. */
void read_manifest(manifest_data *found, char *text, size_t size);

/* release.c */
void read_signed(signed_manifest *found, const char *manifest, const char *envelope);
void check_signed(signed_manifest *found, const key_list *believed, const key_list *revoked);
int is_signer(const char *id);
void put_signed(const signed_manifest *found);
void put_release(const char *path, char **keys, int key_count);

/* trust.c */
char *read_own(const char *path, const char *code, size_t limit, size_t *size);
int add_key(key_list *list, const char *digits, const char *why);
void read_trust(const char *path, key_list *believed, key_list *revoked);

/* memory.c */
int check_memory(const char *path, const signed_manifest *found, const key_list *believed,
                 int downgrade);
void put_memory(void);

/* admit.c */
void put_admission(char **words);

#endif
