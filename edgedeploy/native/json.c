/*
 * Reads canonical JSON (manifest.py) from its start to its end, and refuses with the code of what is
 * read: no white space, members sorted. A text may be changed while it is read.
 */
#include "release.h"
#include "runner.h"

#include <string.h>

#define MOST_DEPTH 64

json_reader json;

void json_begin(char *content, size_t size, const char *code, const char *subject) {
    json.at = content;
    json.end = content + size;
    json.code = code;
    json.subject = subject;
}

void json_bad(const char *why) {
    refuse(json.code, json.subject, why);
}

int json_has(const char *literal) {
    return taken(&json.at, json.end, literal);
}

void json_need(const char *literal) {
    if (!json_has(literal))
        json_bad("it is not in the canonical form, or of another schema");
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

void write_hex(char *to, const unsigned char *bytes) {
    int i;
    for (i = 0; i < 32; i++)
        snprintf(to + 2 * i, 3, "%02x", bytes[i]);
}

/* Pass over a string; returns where it began, with its quotes. */
char *json_text(void) {
    char *begin = json.at;
    json_need("\"");
    while (json.at < json.end && *json.at != '"' && (unsigned char)*json.at >= 0x20)
        json.at += *json.at == '\\' ? 2 : 1;
    json_need("\"");
    return begin;
}

int64_t json_whole(int64_t limit) {
    char *begin = json.at;
    int64_t value = 0;
    for (; json.at < json.end && *json.at >= '0' && *json.at <= '9' && value <= limit; json.at++)
        value = value * 10 + (*json.at - '0');
    if (json.at == begin || value > limit || (*begin == '0' && json.at > begin + 1))
        json_bad("a number is none that fits");
    return value;
}

static void pass(int depth) {
    char close = *json.at == '{' ? '}' : ']';
    if (*json.at == '"') {
        json_text();
    } else if (*json.at == '{' || *json.at == '[') {
        if (!depth)
            json_bad("it is nested too deeply");
        for (json.at++; json.at < json.end && *json.at != close; json_has(",")) {
            if (close == '}') {
                json_text();
                json_need(":");
            }
            pass(depth - 1);
        }
        json_need(close == '}' ? "}" : "]");
    } else {
        char *begin = json.at;
        while (json.at < json.end && *json.at && strchr("+-.0123456789Eaeflnrstu", *json.at))
            json.at++;
        if (json.at == begin)
            json_need("\"");
    }
}

void json_pass(void) {
    pass(MOST_DEPTH);
}
