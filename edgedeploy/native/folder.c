/* Lists the folder that a bundle was extracted into: regular files and folders alone. */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include "release.h"
#include "runner.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MOST_DEPTH 64

static const char *root;
static size_t left;

static char *joined(const char *folder, const char *name) {
    char *path = grown(NULL, strlen(folder) + strlen(name) + 1, 1);
    sprintf(path, *folder ? "%s/%s" : "%s%s", folder, name);
    return path;
}

static void list(const char *folder, int depth) {
    char *place = joined(root, folder);
    DIR *opened = opendir(place);
    struct dirent *entry;
    if (!opened)
        fail(6, "E602: %s: %s", place, strerror(errno));
    while ((errno = 0, entry = readdir(opened))) {
        struct stat about;
        char *path, *full;
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        path = joined(folder, entry->d_name);
        full = joined(root, path);
        if (lstat(full, &about))
            fail(6, "E602: %s: %s", full, strerror(errno));
        free(full);
        if (S_ISDIR(about.st_mode) && depth) {
            list(path, depth - 1);
            free(path);
        } else if (S_ISREG(about.st_mode) && left) {
            member m = {0};
            m.path = path;
            m.size = (uint64_t)about.st_size;
            add_member(&m);
            left--;
        } else {
            refuse("E735", path, "it is no file, or one too many");
        }
    }
    if (errno)
        fail(6, "E602: %s: %s", place, strerror(errno));
    closedir(opened);
    free(place);
}

void list_folder(const char *path, size_t most) {
    root = path;
    left = most;
    list("", MOST_DEPTH);
}
