/*
 * Reads the archive of a bundle: the one form that release/archive.py writes, and no other. Every
 * byte outside of the contents is compared (PKWARE APPNOTE 6.3.10, sections 4.3 to 4.5.3). Or the
 * folder that a bundle was extracted into; folder.c lists that.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "release.h"
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_MEMBERS 20000
#define MOST_PATH 1024
#define MOST_HEADER (46 + MOST_PATH + 32)
#define LIMIT32 0xFFFFFFFFULL

static int handle = -1;
static const char *root; /* of a folder; NULL for an archive */
static member *members;
static size_t member_count;
static unsigned char chunk[1 << 16];

void refuse(const char *code, const char *path, const char *why) {
    fail(7, *path ? "%s: '%.160s': %s" : "%s: %s%s", code, path, why);
}

static void bad(const char *path, const char *why) {
    refuse("E731", path, why);
}

/* Read exactly that; 0 where the file is shorter. */
static int read_at(void *into, size_t size, uint64_t at) {
    char *to = into;
    while (size) {
        ssize_t part = pread(handle, to, size, (off_t)at);
        if (part < 0 && errno == EINTR)
            continue;
        if (part < 0)
            fail(6, "E602: %s", strerror(errno));
        if (!part)
            return 0;
        to += part;
        at += (uint64_t)part;
        size -= (size_t)part;
    }
    return 1;
}

static unsigned char *put(unsigned char *to, uint64_t value, int bytes) {
    for (; bytes; bytes--, value >>= 8)
        *to++ = (unsigned char)value;
    return to;
}

static uint64_t get(const unsigned char *from, int bytes) {
    uint64_t value = 0;
    while (bytes--)
        value = value << 8 | from[bytes];
    return value;
}

/* What a local header and an entry of the directory have in common: from the flags to the name's
 * length. The date is 1 January 1980. */
static unsigned char *put_about(unsigned char *to, const member *m) {
    uint64_t shown = m->size < LIMIT32 ? m->size : LIMIT32;
    to = put(put(put(put(to, 1 << 11, 2), 0, 2), 0, 2), 33, 2);
    to = put(put(put(to, m->crc, 4), shown, 4), shown, 4);
    return put(to, strlen(m->path), 2);
}

static size_t local_header(unsigned char *header, const member *m) {
    int wide = m->size >= LIMIT32;
    unsigned char *to = put(put(header, 0x04034B50, 4), wide ? 45 : 20, 2);
    to = put(put_about(to, m), wide ? 20 : 0, 2);
    memcpy(to, m->path, strlen(m->path));
    to += strlen(m->path);
    if (wide)
        to = put(put(put(put(to, 1, 2), 16, 2), m->size, 8), m->size, 8);
    return (size_t)(to - header);
}

static size_t entry(unsigned char *header, const member *m) {
    int wide = m->size >= LIMIT32;
    uint64_t begin = m->offset - 30 - strlen(m->path) - (wide ? 20 : 0);
    int far = begin >= LIMIT32;
    uint64_t fields = (wide ? 16u : 0u) + (far ? 8u : 0u), version = fields ? 45 : 20;
    unsigned char *to = put(put(put(header, 0x02014B50, 4), 3 << 8 | version, 2), version, 2);
    to = put(put_about(to, m), fields ? fields + 4 : 0, 2);
    to = put(put(put(put(to, 0, 2), 0, 2), 0, 2), 0100644ULL << 16, 4);
    to = put(to, far ? LIMIT32 : begin, 4);
    memcpy(to, m->path, strlen(m->path));
    to += strlen(m->path);
    if (fields)
        to = put(put(to, 1, 2), fields, 2);
    if (wide)
        to = put(put(to, m->size, 8), m->size, 8);
    if (far)
        to = put(to, begin, 8);
    return (size_t)(to - header);
}

/* What ends an archive whose directory has `size` bytes from `at`. */
static size_t ending(unsigned char *header, uint64_t at, uint64_t size) {
    unsigned char *to = header;
    if (at >= LIMIT32) {
        to = put(put(put(put(to, 0x06064B50, 4), 44, 8), 3 << 8 | 45, 2), 45, 2);
        to = put(put(put(put(to, 0, 4), 0, 4), member_count, 8), member_count, 8);
        to = put(put(to, size, 8), at, 8);
        to = put(put(put(put(to, 0x07064B50, 4), 0, 4), at + size, 8), 1, 4);
    }
    to = put(put(put(to, 0x06054B50, 4), 0, 2), 0, 2);
    to = put(put(put(to, member_count, 2), member_count, 2), size, 4);
    return (size_t)(put(put(to, at < LIMIT32 ? at : LIMIT32, 4), 0, 2) - header);
}

/* Read the header at `at`; returns where the next one begins. */
static uint64_t read_header(uint64_t at, const unsigned char *head, uint64_t end) {
    unsigned char found[MOST_HEADER], wanted[MOST_HEADER];
    size_t name = get(head + 26, 2), extra = get(head + 28, 2), whole = 30 + name + extra;
    member m;
    if (member_count >= MOST_MEMBERS || !name || name > MOST_PATH || (extra && extra != 20))
        bad("", "a header is not one of ours");
    if (!read_at(found, whole, at))
        bad("", "it is cut off");
    m.path = grown(NULL, name, 1);
    memcpy(m.path, found + 30, name);
    m.path[name] = 0;
    m.crc = (uint32_t)get(head + 14, 4);
    m.size = extra ? get(found + 30 + name + 4, 8) : get(head + 22, 4);
    m.offset = at + whole;
    if (strlen(m.path) != name || local_header(wanted, &m) != whole || memcmp(wanted, found, whole))
        bad(m.path, "its header is not one of ours");
    if (m.offset > end || m.size > end - m.offset)
        bad(m.path, "it is cut off");
    if (member_count && strcmp(members[member_count - 1].path, m.path) >= 0)
        bad("", "its members are not sorted, or one is there twice");
    add_member(&m);
    return m.offset + m.size;
}

void add_member(const member *m) {
    members = grown(members, member_count, sizeof *members);
    members[member_count++] = *m;
}

static int by_path(const void *one, const void *other) {
    return strcmp(((const member *)one)->path, ((const member *)other)->path);
}

void open_folder(const char *path) {
    root = path;
    list_folder(path, MOST_MEMBERS);
    qsort(members, member_count, sizeof *members, by_path);
}

int is_folder(void) {
    return root != NULL;
}

/* In a folder, open the file; not through a link, and without waiting for a pipe's writer. */
static void turn_to(const member *m) {
    char *path;
    if (!root)
        return;
    path = grown(NULL, strlen(root) + strlen(m->path) + 1, 1);
    sprintf(path, "%s/%s", root, m->path);
    if (handle >= 0)
        close(handle);
    handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    if (handle < 0)
        fail(6, "E602: %s: %s", m->path, strerror(errno));
    free(path);
}

static void check_archive(uint64_t end) {
    unsigned char head[30], found[MOST_HEADER], wanted[MOST_HEADER];
    uint64_t at = 0, directory;
    size_t i, size;
    while (read_at(head, sizeof head, at) && get(head, 4) == 0x04034B50)
        at = read_header(at, head, end);
    directory = at;
    for (i = 0; i <= member_count; i++, at += size) {
        size = i < member_count ? entry(wanted, &members[i])
                                : ending(wanted, directory, at - directory);
        if (!read_at(found, size, at) || memcmp(found, wanted, size))
            bad("", "its directory is not that of its members");
    }
    if (at != end)
        bad("", "something follows it");
}

void open_release(const char *path) {
    struct stat about;
    handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (handle < 0 || fstat(handle, &about))
        fail(6, "E602: %s: %s", path, strerror(errno));
    if (S_ISDIR(about.st_mode))
        open_folder(path);
    else if (S_ISREG(about.st_mode))
        check_archive((uint64_t)about.st_size);
    else
        bad("", "it is no regular file");
}

const member *member_at(size_t number) {
    return number < member_count ? &members[number] : NULL;
}

const member *find_member(const char *path) {
    size_t low = 0, high = member_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int side = strcmp(path, members[middle].path);
        if (!side)
            return &members[middle];
        if (side < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* CRC-32 of the format (4.4.7), by the bit. */
static uint32_t crc_of(uint32_t crc, const unsigned char *data, size_t size) {
    static uint32_t table[256];
    size_t i;
    if (!table[1])
        for (i = 0; i < 256; i++) {
            uint32_t value = (uint32_t)i;
            int bit;
            for (bit = 0; bit < 8; bit++)
                value = value >> 1 ^ (value & 1 ? 0xEDB88320u : 0);
            table[i] = value;
        }
    for (i = 0; i < size; i++)
        crc = crc >> 8 ^ table[(crc ^ data[i]) & 255];
    return crc;
}

void hash_member(const member *m, unsigned char *sha256) {
    uint64_t at = m->offset, left = m->size;
    uint32_t crc = 0xFFFFFFFF;
    digest d;
    turn_to(m);
    digest_begin(&d, 0);
    while (left) {
        size_t part = left < sizeof chunk ? (size_t)left : sizeof chunk;
        if (!read_at(chunk, part, at))
            bad(m->path, "it is cut off");
        crc = crc_of(crc, chunk, part);
        digest_add(&d, chunk, part);
        at += part;
        left -= part;
    }
    digest_end(&d, sha256);
    if (!root && (crc ^ 0xFFFFFFFF) != m->crc)
        refuse("E735", m->path, "its content is another");
}

/* Read a small member; a zero byte follows it. */
char *read_whole(const member *m, size_t limit) {
    unsigned char sha256[32], again[32];
    char *content;
    digest d;
    if (m->size > limit)
        bad(m->path, "it is too large");
    hash_member(m, sha256);
    content = grown(NULL, (size_t)m->size, 1);
    if (!read_at(content, (size_t)m->size, m->offset))
        bad(m->path, "it is cut off");
    content[m->size] = 0;
    digest_begin(&d, 0);
    digest_add(&d, content, (size_t)m->size);
    digest_end(&d, again);
    if (memcmp(sha256, again, sizeof again))
        refuse("E735", m->path, "it changed while it was read");
    return content;
}
