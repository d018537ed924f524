/*
 * Reads a depot's trust file (release/trust_file.py): which keys are believed, and which no more.
 * Its statements are not verified again: whoever may write the file could believe any key.
 */
#define _GNU_SOURCE
#include "release.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_TRUST_BYTES (4u << 20)

/* Read a file that nobody but its owner, who is we or root, may write; NULL where there is none.
 * A zero byte follows it. */
char *read_own(const char *path, const char *code, size_t limit, size_t *size) {
    struct stat about;
    char *content;
    ssize_t part;
    int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (handle < 0 && errno == ENOENT)
        return NULL;
    if (handle < 0 || fstat(handle, &about))
        fail(6, "E602: %s: %s", path, strerror(errno));
    if (!S_ISREG(about.st_mode) || (about.st_uid && about.st_uid != geteuid()) ||
        (about.st_mode & 022) || (uint64_t)about.st_size > limit)
        refuse(code, path, "it is no file that we alone may write, or too large");
    content = grown(NULL, (size_t)about.st_size, 1);
    for (*size = 0; *size < (size_t)about.st_size; *size += (size_t)part) {
        part = read(handle, content + *size, (size_t)about.st_size - *size);
        if (part <= 0)
            fail(6, "E602: %s cannot be read to its end", path);
    }
    close(handle);
    content[*size] = 0;
    return content;
}

/* Add the key of 64 hexadecimal digits; 0 where they are none. */
int add_key(key_list *list, const char *digits, const char *why) {
    public_key key = {.why = why};
    unsigned char hashed[32];
    digest d;
    if (!read_hex(key.bytes, digits, 32))
        return 0;
    digest_begin(&d, 0);
    digest_add(&d, key.bytes, sizeof key.bytes);
    digest_end(&d, hashed);
    write_hex(key.id, hashed);
    list->keys = grown(list->keys, list->count, sizeof key);
    list->keys[list->count++] = key;
    return 1;
}

static void read_key(key_list *believed, key_list *revoked) {
    char *public, *why = NULL;
    json_need("{\"by\":");
    json_pass();
    json_need(",\"name\":");
    json_pass();
    json_need(",\"public\":");
    public = json_text() + 1;
    if (json.at - public != 65)
        json_bad("a key is none");
    json_need(",\"revoked\":");
    if (!json_has("null")) {
        why = json_text() + 1;
        json.at[-1] = 0;
    }
    json_need("}");
    if (!add_key(why ? revoked : believed, public, why))
        json_bad("a key is none");
}

void read_trust(const char *path, key_list *believed, key_list *revoked) {
    size_t size;
    char *content = read_own(path, "E743", MOST_TRUST_BYTES, &size);
    if (!content)
        refuse("E743", path, "it is missing");
    json_begin(content, size, "E743", path);
    for (json_need("{\"keys\":["); *json.at != ']'; json_has(","))
        read_key(believed, revoked);
    json_need("],\"schema\":1,\"statements\":[");
    for (; *json.at != ']'; json_has(","))
        json_pass();
    json_need("]}");
    if (json.at != json.end)
        json_bad("something follows it");
}
