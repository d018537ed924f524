/*
 * Reads what is checked of a manifest. A believed key has signed it, so that it is canonical JSON;
 * what is not needed here is passed over.
 */
#include "release.h"
#include "runner.h"

#include <string.h>

#define MOST_FILES 10000
#define MOST_BYTES (64ULL << 30)
#define MOST_COUNTER ((1LL << 53) - 1)

/* A plain relative path; nothing is written to it here. */
static int is_plain(const char *path) {
    const char *part = path, *next;
    for (;; part = next + 1) {
        size_t size;
        next = strchr(part, '/');
        size = next ? (size_t)(next - part) : strlen(part);
        if (!size || size > 255 || *part == '-' || (size == 1 && *part == '.') ||
            (size == 2 && part[0] == '.' && part[1] == '.'))
            return 0;
        if (!next)
            return strlen(path) <= 1024;
    }
}

static char *path(void) {
    char *found = json_text() + 1, *from, *to;
    json.at[-1] = 0;
    for (from = to = found; *from; from++) {
        if (*from == '\\' && from[1] == '"')
            from++;
        else if (*from == '\\' || *from == 0x7F)
            json_bad("a path is not a plain relative one");
        *to++ = *from;
    }
    *to = 0;
    if (from != json.at - 1 || !is_plain(found))
        json_bad("a path is not a plain relative one");
    return found;
}

static void read_files(manifest_data *found) {
    uint64_t total = 0;
    for (json_need("["); *json.at != ']'; json_has(",")) {
        listed file;
        if (found->count >= MOST_FILES)
            json_bad("it lists too many files");
        json_need("{\"path\":");
        file.path = path();
        json_need(",\"role\":");
        json_text();
        json_need(",\"segments\":");
        json_pass();
        json_need(",\"sha256\":\"");
        if (json.end - json.at < 64 || !read_hex(file.sha256, json.at, 32))
            json_bad("a digest is none");
        json.at += 64;
        json_need("\",\"size\":");
        file.size = (uint64_t)json_whole((int64_t)MOST_BYTES);
        total += file.size;
        json_need("}");
        if (found->count && strcmp(found->files[found->count - 1].path, file.path) >= 0)
            json_bad("its files are not sorted, or one is listed twice");
        found->files = grown(found->files, found->count, sizeof file);
        found->files[found->count++] = file;
    }
    json_need("]");
    if (total > MOST_BYTES)
        json_bad("its files are too large");
}

/* Read a string of letters, digits and some signs, such as may name a file. */
static char *name(void) {
    static const char signs[] = "._+~-";
    char *found = json_text(), *letter;
    for (letter = found + 1; letter < json.at - 1; letter++) {
        int alphanumeric = (*letter >= '0' && *letter <= '9') ||
                           ((*letter | 32) >= 'a' && (*letter | 32) <= 'z' && *letter < 127);
        if (!*letter || (!alphanumeric && (letter == found + 1 || !strchr(signs, *letter))))
            json_bad("its name or version is none");
    }
    if (json.at - found < 3 || json.at - found > 102)
        json_bad("its name or version is none");
    json.at[-1] = 0;
    return found + 1;
}

void read_manifest(manifest_data *found, char *content, size_t size) {
    static const char *const wanted[] = {"counter", "files", "name", "schema", "version"};
    const char *before = "";
    size_t next = 0;
    json_begin(content, size, "E734", "manifest.json");
    memset(found, 0, sizeof *found);
    for (json_need("{"); *json.at != '}'; json_has(",")) {
        char *key = json_text() + 1;
        int known;
        json.at[-1] = 0;
        if (strcmp(before, key) >= 0)
            json_bad("its fields are not sorted, or one is there twice");
        before = key;
        known = next < 5 && !strcmp(key, wanted[next]);
        json_need(":");
        if (!known)
            json_pass();
        else if (next == 0)
            found->counter = json_whole(MOST_COUNTER);
        else if (next == 1)
            read_files(found);
        else if (next == 2)
            found->name = name();
        else if (next == 3)
            json_need("1");
        else
            found->version = name();
        next += known != 0;
    }
    json_need("}");
    if (next != 5 || json.at != json.end || !found->counter)
        json_bad("it is of another schema");
}
