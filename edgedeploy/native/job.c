/* The job: lines of words, see runner.c. */
#define _GNU_SOURCE
#include "runner.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

job_data job = {.pack = -1};

static char *next_word(char **rest) {
    char *word = *rest, *to, *from;
    if (!word || !*word)
        fail(2, "a line of the job is too short");
    *rest = strchr(word, ' ');
    if (*rest)
        *(*rest)++ = 0;
    for (to = from = word; *from; from++) {
        if (*from == '%' && isxdigit((unsigned char)from[1]) && isxdigit((unsigned char)from[2])) {
            char digits[3] = {from[1], from[2], 0};
            *to++ = (char)strtol(digits, NULL, 16);
            from += 2;
        } else {
            *to++ = *from;
        }
    }
    *to = 0;
    return word;
}

static char *kept(char **rest) {
    char *copy = strdup(next_word(rest));
    if (!copy)
        fail(3, "out of memory");
    return copy;
}

int64_t number(char **rest, int64_t limit) {
    char *word = next_word(rest), *end;
    long long value;
    errno = 0;
    value = strtoll(word, &end, 10);
    if (errno || end == word || *end || value < 0 || value > limit)
        fail(2, "%s is no number that fits", word);
    return value;
}

static void add_name(char ***list, size_t *count, char *name) {
    *list = grown(*list, *count, sizeof **list);
    (*list)[(*count)++] = name;
}

static void add_tensor(char **rest) {
    tensor made = {0};
    sample *last;
    int i;
    if (!job.sample_count)
        fail(2, "a tensor before the first sample");
    made.name = kept(rest);
    made.type = (int)number(rest, 64);
    made.offset = number(rest, INT64_MAX / 2);
    made.bytes = (size_t)number(rest, INT64_MAX / 2);
    made.rank = (int)number(rest, MAX_DIMS);
    for (i = 0; i < made.rank; i++)
        made.dims[i] = number(rest, INT64_MAX);
    last = &job.samples[job.sample_count - 1];
    last->tensors = grown(last->tensors, last->count, sizeof made);
    last->tensors[last->count++] = made;
}

static void add_order(char *rest) {
    order made = {0};
    while (rest && *rest) {
        made.slots = grown(made.slots, made.count, sizeof *made.slots);
        made.slots[made.count++] = (int)number(&rest, (int64_t)job.artifact_count - 1);
    }
    job.orders = grown(job.orders, job.order_count, sizeof *job.orders);
    job.orders[job.order_count++] = made;
}

static void bind_to(char *rest) {
    cpu_set_t set;
    CPU_ZERO(&set);
    while (rest && *rest)
        CPU_SET((size_t)number(&rest, CPU_SETSIZE - 1), &set);
    if (sched_setaffinity(0, sizeof set, &set))
        fail(2, "cannot be bound to these CPUs: %s", strerror(errno));
}

/* Let a child wait for the end of standard input and end this process then: the host is gone. */
static void end_with_input(void) {
    pid_t parent = getpid(), child = fork();
    char byte;
    if (child < 0)
        fail(3, "cannot start a process: %s", strerror(errno));
    if (child > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fclose(out);
    close(1);
    close(2);
    while (getppid() == parent && read(0, &byte, 1) > 0)
        ;
    if (getppid() == parent)
        kill(parent, SIGKILL);
    _exit(0);
}

static void obey(char *line) {
    char *rest = line, *word = next_word(&rest);
    artifact *last = job.artifact_count ? &job.artifacts[job.artifact_count - 1] : NULL;
    if (!strcmp(word, "artifact")) {
        if (job.artifact_count == MAX_ARTIFACTS)
            fail(2, "more than %d artifacts", MAX_ARTIFACTS);
        last = &job.artifacts[job.artifact_count++];
        last->path = kept(&rest);
        last->threads = (int)number(&rest, 1024);
        last->optimise = (int)number(&rest, 1);
    } else if (!strcmp(word, "config") && last) {
        size_t same = last->configs;
        add_name(&last->keys, &same, kept(&rest));
        add_name(&last->values, &last->configs, kept(&rest));
    } else if (!strcmp(word, "file") && last) {
        add_name(&last->files, &last->file_count, kept(&rest));
    } else if (!strcmp(word, "pack")) {
        word = next_word(&rest);
        if ((job.pack = open(word, O_RDONLY | O_CLOEXEC)) < 0)
            fail(2, "cannot open %s: %s", word, strerror(errno));
    } else if (!strcmp(word, "sample")) {
        sample made = {0};
        made.anew = (int)number(&rest, 1);
        job.samples = grown(job.samples, job.sample_count, sizeof *job.samples);
        job.samples[job.sample_count++] = made;
    } else if (!strcmp(word, "tensor")) {
        add_tensor(&rest);
    } else if (!strcmp(word, "watch")) {
        add_name(&job.watched, &job.watched_count, kept(&rest));
    } else if (!strcmp(word, "state")) {
        state_pair made;
        made.input = kept(&rest);
        made.output = kept(&rest);
        job.states = grown(job.states, job.state_count, sizeof *job.states);
        job.states[job.state_count++] = made;
    } else if (!strcmp(word, "cpus")) {
        bind_to(rest);
    } else if (!strcmp(word, "held")) {
        end_with_input();
    } else if (!strcmp(word, "plan")) {
        int i;
        for (i = 0; i < 6; i++)
            job.plan[i] = number(&rest, INT64_MAX);
    } else if (!strcmp(word, "order")) {
        add_order(rest);
    } else {
        fail(2, "the job has a line `%s` that this runner does not know", word);
    }
}

void read_job(const char *path) {
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    int first = 1;
    if (!file)
        fail(2, "cannot open %s: %s", path, strerror(errno));
    while ((length = getline(&line, &room, file)) > 0) {
        if (line[length - 1] == '\n')
            line[--length] = 0;
        if (first && strcmp(line, "edgedeploy-runner 1"))
            fail(2, "the job is not for this runner");
        if (!first && length)
            obey(line);
        first = 0;
    }
    free(line);
    fclose(file);
    if (!job.artifact_count || !job.sample_count)
        fail(2, "the job needs an artifact and a sample");
}

