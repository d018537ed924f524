/*
 * Reads what is checked of a manifest. A believed key has signed it, so that it is canonical JSON;
 * what is not needed here is passed over.
 */
#include "release.h"
#include "runner.h"

#include <stdlib.h>
#include <string.h>

#define MOST_FILES 10000
#define MOST_BYTES (64ULL << 30)
#define MOST_DEPTH 64
#define MOST_COUNTER ((1LL << 53) - 1)

static char *at;
static const char *end;

static void bad(const char *why) {
    refuse("E734", "manifest.json", why);
}

static void need(const char *literal) {
    if (!taken(&at, end, literal))
        bad("it is not in the canonical form, or of another schema");
}

int taken(char **from, const char *limit, const char *literal) {
    size_t length = strlen(literal);
    if (*from > limit || (size_t)(limit - *from) < length || memcmp(*from, literal, length))
        return 0;
    *from += length;
    return 1;
}

int read_hex(unsigned char *to, const char *text, size_t bytes) {
    static const char digits[] = "0123456789abcdef";
    size_t i;
    for (i = 0; i < 2 * bytes; i++) {
        const char *found = text[i] ? strchr(digits, text[i]) : NULL;
        if (!found)
            return 0;
        to[i / 2] = (unsigned char)((i % 2 ? to[i / 2] << 4 : 0) | (found - digits));
    }
    return 1;
}

/* Pass over a string; returns where it began, with its quotes. */
static char *text(void) {
    char *begin = at;
    need("\"");
    while (at < end && *at != '"' && (unsigned char)*at >= 0x20)
        at += *at == '\\' ? 2 : 1;
    need("\"");
    return begin;
}

static int64_t whole(int64_t limit) {
    char *begin = at;
    int64_t value = 0;
    for (; at < end && *at >= '0' && *at <= '9' && value <= limit; at++)
        value = value * 10 + (*at - '0');
    if (at == begin || value > limit || (*begin == '0' && at > begin + 1))
        bad("a number is none that fits");
    return value;
}

static void pass(int depth) {
    char close = *at == '{' ? '}' : ']';
    if (*at == '"') {
        text();
    } else if (*at == '{' || *at == '[') {
        if (!depth)
            bad("it is nested too deeply");
        for (at++; at < end && *at != close; taken(&at, end, ",")) {
            if (close == '}') {
                text();
                need(":");
            }
            pass(depth - 1);
        }
        need(close == '}' ? "}" : "]");
    } else {
        char *begin = at;
        while (at < end && *at && strchr("+-.0123456789Eaeflnrstu", *at))
            at++;
        if (at == begin)
            need("\"");
    }
}

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
    char *found = text() + 1, *from, *to;
    at[-1] = 0;
    for (from = to = found; *from; from++) {
        if (*from == '\\' && from[1] == '"')
            from++;
        else if (*from == '\\' || *from == 0x7F)
            bad("a path is not a plain relative one");
        *to++ = *from;
    }
    *to = 0;
    if (from != at - 1 || !is_plain(found))
        bad("a path is not a plain relative one");
    return found;
}

static void read_files(manifest_data *found) {
    uint64_t total = 0;
    for (need("["); *at != ']'; taken(&at, end, ",")) {
        listed file;
        if (found->count >= MOST_FILES)
            bad("it lists too many files");
        need("{\"path\":");
        file.path = path();
        need(",\"role\":");
        text();
        need(",\"segments\":");
        pass(MOST_DEPTH);
        need(",\"sha256\":\"");
        if (end - at < 64 || !read_hex(file.sha256, at, 32))
            bad("a digest is none");
        at += 64;
        need("\",\"size\":");
        file.size = (uint64_t)whole((int64_t)MOST_BYTES);
        total += file.size;
        need("}");
        if (found->count && strcmp(found->files[found->count - 1].path, file.path) >= 0)
            bad("its files are not sorted, or one is listed twice");
        found->files = grown(found->files, found->count, sizeof file);
        found->files[found->count++] = file;
    }
    need("]");
    if (total > MOST_BYTES)
        bad("its files are too large");
}

/* Read a string of letters, digits and some signs, such as may name a file. */
static char *name(void) {
    static const char signs[] = "._+~-";
    char *found = text(), *letter;
    for (letter = found + 1; letter < at - 1; letter++) {
        int alphanumeric = (*letter >= '0' && *letter <= '9') ||
                           ((*letter | 32) >= 'a' && (*letter | 32) <= 'z' && *letter < 127);
        if (!*letter || (!alphanumeric && (letter == found + 1 || !strchr(signs, *letter))))
            bad("its name or version is none");
    }
    if (at - found < 3 || at - found > 102)
        bad("its name or version is none");
    at[-1] = 0;
    return found + 1;
}

void read_manifest(manifest_data *found, char *content, size_t size) {
    static const char *const wanted[] = {"counter", "files", "name", "schema", "version"};
    const char *before = "";
    size_t next = 0;
    at = content;
    end = content + size;
    memset(found, 0, sizeof *found);
    for (need("{"); *at != '}'; taken(&at, end, ",")) {
        char *key = text() + 1;
        int known;
        at[-1] = 0;
        if (strcmp(before, key) >= 0)
            bad("its fields are not sorted, or one is there twice");
        before = key;
        known = next < 5 && !strcmp(key, wanted[next]);
        need(":");
        if (!known)
            pass(MOST_DEPTH);
        else if (next == 0)
            found->counter = whole(MOST_COUNTER);
        else if (next == 1)
            read_files(found);
        else if (next == 2)
            found->name = name();
        else if (next == 3)
            need("1");
        else
            found->version = name();
        next += known != 0;
    }
    need("}");
    if (next != 5 || at != end || !found->counter)
        bad("it is of another schema");
}
