/*
 * Whether a version may become active where its depot trusts keys (devices/ondevice/admission.py):
 *
 *   runner - admit FOLDER TARGET TRUST MEMORY APPLICATION DOWNGRADE
 *
 * FOLDER is the version's, TARGET the one of the release that it is for; with DOWNGRADE 1 it may be
 * older than what was active. A believed key signed the manifest of the release that it carries,
 * and every file in it is as that says. Results are those of `verify`, and that of memory.c.
 */
#include "release.h"
#include "runner.h"

#include <stdlib.h>
#include <string.h>

static const char *const ours[] = {"manifest.json", "release/manifest.dsse.json",
                                   "release/manifest.json"};

static int is_ours(const char *path) {
    return !strcmp(path, ours[0]) || !strcmp(path, ours[1]) || !strcmp(path, ours[2]);
}

/* The path that a file of the release has in a version: without the target's name. */
static const char *placed(const char *path, const char *target) {
    size_t size = strlen(target);
    return !strncmp(path, target, size) && path[size] == '/' ? path + size + 1 : path;
}

static int by_path(const void *one, const void *other) {
    return strcmp(((const listed *)one)->path, ((const listed *)other)->path);
}

static void check_version(const manifest_data *m) {
    const member *found;
    size_t i;
    for (i = 0; (found = member_at(i)); i++) {
        listed wanted = {0}, *file;
        unsigned char sha256[32];
        if (is_ours(found->path))
            continue;
        wanted.path = found->path;
        file = m->count ? bsearch(&wanted, m->files, m->count, sizeof wanted, by_path) : NULL;
        if (!file)
            refuse("E735", found->path, "it is there and not in the signed manifest");
        if (file->size != found->size)
            refuse("E735", found->path, "its size is another");
        hash_member(found, sha256);
        if (memcmp(sha256, file->sha256, sizeof sha256))
            refuse("E735", found->path, "its content is another");
    }
}

/* Whether a version has a file in a folder, or below it; `size` is that of the folder's name. */
static int has_folder(const char *folder, size_t size) {
    const member *found;
    size_t i;
    for (i = 0; (found = member_at(i)); i++)
        if (!strncmp(found->path, folder, size) && found->path[size] == '/')
            return 1;
    return 0;
}

/* A folder that a version has, it has whole: of several engines it may have one. */
static void check_folders(const manifest_data *m) {
    size_t i;
    for (i = 0; i < m->count; i++) {
        const char *path = m->files[i].path, *slash = strrchr(path, '/');
        if (slash && !find_member(path) && has_folder(path, (size_t)(slash - path)))
            refuse("E735", path, "it is missing");
    }
}

void put_admission(char **words) {
    const char *target = words[1];
    signed_manifest found;
    key_list believed = {0}, revoked = {0};
    size_t i;
    int news;
    read_trust(words[2], &believed, &revoked);
    open_folder(words[0]);
    read_signed(&found, ours[2], ours[1]);
    check_signed(&found, &believed, &revoked);
    if (strcmp(found.data.name, words[4]))
        refuse("E776", "", "it is a release of another application");
    for (i = 0; i < found.data.count; i++)
        found.data.files[i].path = (char *)placed(found.data.files[i].path, target);
    qsort(found.data.files, found.data.count, sizeof *found.data.files, by_path);
    check_folders(&found.data);
    check_version(&found.data);
    news = check_memory(words[3], &found, &believed, !strcmp(words[5], "1"));
    put_signed(&found);
    if (news)
        put_memory();
}
