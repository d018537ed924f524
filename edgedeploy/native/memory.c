/*
 * The newest release of every name that was active in a depot, by key (verify_file.py, Memory). It
 * is read and checked here, and printed as it shall be; who asks puts that in its place.
 *
 *   memory JSON                           where the release is news
 */
#include "release.h"
#include "runner.h"

#include <stdlib.h>
#include <string.h>

#define MOST_STATE_BYTES (4u << 20)
#define MOST_COUNTER ((1LL << 53) - 1)

typedef struct {
    const char *key, *name;
    int64_t counter;
    const char *digest;
} taken_release;

static const char plain[] = /* what names are made of; they are printed as they are */
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+~-";
static taken_release *list;
static size_t count;

static char *word(size_t size) {
    char *begin = json_text() + 1;
    if (size && json.at - begin != (ptrdiff_t)size + 1)
        json_bad("a digest is none");
    json.at[-1] = 0;
    return begin;
}

static void add(const char *key, const char *name, int64_t counter, const char *digest) {
    taken_release item = {key, name, counter, digest};
    list = grown(list, count, sizeof item);
    list[count++] = item;
}

static int by_key(const void *one, const void *other) {
    const taken_release *a = one, *b = other;
    int keys = strcmp(a->key, b->key);
    return keys ? keys : strcmp(a->name, b->name);
}

static void read_memory(const char *path) {
    size_t size, i;
    char *content = read_own(path, "E740", MOST_STATE_BYTES, &size);
    unsigned char hex[32];
    if (!content)
        return;
    json_begin(content, size, "E740", path);
    for (json_need("{\"counters\":{"); *json.at != '}'; json_has(",")) {
        const char *key = word(64);
        for (json_need(":{"); *json.at != '}'; json_has(",")) {
            const char *name = word(0);
            int64_t counter;
            if (name[strspn(name, plain)])
                json_bad("a name is none");
            json_need(":{\"counter\":");
            counter = json_whole(MOST_COUNTER);
            json_need(",\"digest\":");
            add(key, name, counter, word(64));
            json_need("}");
            if (!read_hex(hex, key, 32) || !read_hex(hex, list[count - 1].digest, 32))
                json_bad("a digest is none");
        }
        json_need("}");
    }
    json_need("},\"schema\":1}");
    if (json.at != json.end)
        json_bad("something follows it");
    for (i = 1; i < count; i++)
        if (by_key(&list[i - 1], &list[i]) >= 0)
            json_bad("it is not sorted");
}

static taken_release *found_in(const char *key, const char *name) {
    size_t i;
    for (i = 0; i < count; i++)
        if (!strcmp(list[i].key, key) && !strcmp(list[i].name, name))
            return &list[i];
    return NULL;
}

/* Print it with the release that was checked. */
void put_memory(void) {
    size_t i;
    qsort(list, count, sizeof *list, by_key);
    fputs("memory {\"counters\":{", out);
    for (i = 0; i < count; i++) {
        int again = i && !strcmp(list[i - 1].key, list[i].key);
        if (again)
            fputc(',', out);
        else
            fprintf(out, "%s\"%s\":{", i ? "}," : "", list[i].key);
        fprintf(out, "\"%s\":{\"counter\":%lld,\"digest\":\"%s\"}", list[i].name,
                (long long)list[i].counter, list[i].digest);
    }
    fputs("}},\"schema\":1}\n", out);
}

/* Refuse a release older than the newest that a believed key signed, unless that is allowed.
 * Returns whether it is news. */
int check_memory(const char *path, const signed_manifest *found, const key_list *believed,
                 int downgrade) {
    const manifest_data *m = &found->data;
    size_t i;
    int news = 0;
    read_memory(path);
    for (i = 0; i < believed->count; i++) {
        const taken_release *before = found_in(believed->keys[i].id, m->name);
        if (before && before->counter == m->counter && strcmp(before->digest, found->id))
            refuse("E739", m->name, "another release with its counter was active");
        if (before && before->counter > m->counter && !downgrade)
            refuse("E738", m->name, "a newer release was active");
    }
    for (i = 0; i < believed->count; i++) {
        const char *id = believed->keys[i].id;
        taken_release *before = found_in(id, m->name);
        if (!is_signer(id) || (before && before->counter >= m->counter))
            continue;
        if (before) {
            before->counter = m->counter;
            before->digest = found->id;
        } else {
            add(id, m->name, m->counter, found->id);
        }
        news = 1;
    }
    return news;
}
