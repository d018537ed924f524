/* Measures latency: windows of each artifact in turns, with evidence of clock and heat. */
#define _GNU_SOURCE
#include "runner.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define WARMUP_WINDOWS 3
#define WARMUP_AGREEMENT 0.02
#define EVIDENCE_BYTES 255

static long long cpu_us(int who) {
    struct rusage usage;
    getrusage(who, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec +
           usage.ru_stime.tv_usec;
}

static void put_evidence(void) {
    size_t i;
    fprintf(out, "at %lld %lld\n", (long long)now_ns(),
            cpu_us(RUSAGE_SELF) + cpu_us(RUSAGE_CHILDREN));
    for (i = 0; i < job.watched_count; i++) {
        char text[EVIDENCE_BYTES + 1];
        int handle = open(job.watched[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        ssize_t length = handle < 0 ? -1 : read(handle, text, EVIDENCE_BYTES);
        if (handle >= 0)
            close(handle);
        if (length < 0)
            continue;
        text[length] = 0;
        fprintf(out, "read %zu ", i);
        put_word(text);
        fputc('\n', out);
    }
}

/* How many CPUs there are, how long a tick of /proc/stat is, and where this process may run. */
static void put_host(void) {
    cpu_set_t set;
    int i;
    fprintf(out, "host %ld %ld", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_CLK_TCK));
    for (i = 0; !sched_getaffinity(0, sizeof set, &set) && i < CPU_SETSIZE; i++)
        if (CPU_ISSET((size_t)i, &set))
            fprintf(out, " %d", i);
    fputc('\n', out);
}

static int by_size(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static void forget_outputs(artifact *a) {
    if (a->made)
        release_outputs(a, a->made);
    free(a->made);
    a->made = NULL;
}

/* Each run's state is the outputs of the one before, unless the sample starts a sequence; what that
   takes lies between the times. */
static void window(artifact *a, void ***feeds, int64_t *durations) {
    size_t i;
    for (i = 0; i < a->window; i++) {
        sample *now = &job.samples[a->position];
        void **inputs = feeds[a->position];
        void **found = grown(NULL, a->output_count, sizeof *found);
        int carries = job.state_count && a->made && !now->anew;
        int64_t start;
        if (carries)
            inputs = bound(a, now, a->made);
        start = now_ns();
        run(a, inputs, found);
        durations[i] = now_ns() - start;
        if (carries)
            free(inputs);
        forget_outputs(a);
        a->made = found;
        if (!job.state_count)
            forget_outputs(a);
        a->position = a->position + 1 < job.sample_count ? a->position + 1 : 0;
    }
}

static int64_t *room_for(const artifact *a) {
    return grown(NULL, a->window, sizeof(int64_t));
}

/* Run windows until the last medians agree, or the time is over; sets the length of a window. */
static void warm_up(artifact *a, size_t number_of, void ***feeds) {
    int64_t begin = now_ns(), *medians = NULL;
    size_t count = 0;
    int stable = 0;
    a->window = 1;
    while (!stable && (now_ns() - begin < job.plan[WARMUP_MAX] || count < WARMUP_WINDOWS)) {
        int64_t *durations = room_for(a), median, least, most;
        size_t i;
        window(a, feeds, durations);
        qsort(durations, a->window, sizeof *durations, by_size);
        median = durations[a->window / 2] > 0 ? durations[a->window / 2] : 1;
        free(durations);
        a->window = (size_t)((double)job.plan[WINDOW] / (double)median + 0.5);
        if (!a->window)
            a->window = 1;
        medians = grown(medians, count, sizeof *medians);
        medians[count++] = median;
        if (count < WARMUP_WINDOWS)
            continue;
        least = most = median;
        for (i = count - WARMUP_WINDOWS; i < count; i++) {
            least = medians[i] < least ? medians[i] : least;
            most = medians[i] > most ? medians[i] : most;
        }
        stable = (double)(most - least) / (double)least <= WARMUP_AGREEMENT;
    }
    fprintf(out, "warm %zu %d %lld", number_of, stable, (long long)(now_ns() - begin));
    for (size_t i = 0; i < count; i++)
        fprintf(out, " %lld", (long long)medians[i]);
    fputc('\n', out);
    free(medians);
}

static void measured_window(artifact *a, int slot, int64_t repetition, void ***feeds) {
    int64_t *durations = room_for(a), begin = now_ns(), end;
    size_t i;
    window(a, feeds, durations);
    end = now_ns();
    fprintf(out, "window %d %lld %lld %lld", slot, (long long)repetition, (long long)begin,
            (long long)end);
    for (i = 0; i < a->window; i++) {
        fprintf(out, " %lld", (long long)durations[i]);
        a->total_ns += durations[i];
    }
    fputc('\n', out);
    a->count += a->window;
    free(durations);
    put_evidence();
}

static int enough(void) {
    size_t i;
    for (i = 0; i < job.artifact_count; i++)
        if (job.artifacts[i].total_ns < job.plan[MIN_TIME] ||
            (int64_t)job.artifacts[i].count < job.plan[MIN_COUNT])
            return 0;
    return 1;
}

static void say_progress(void) {
    const artifact *least = &job.artifacts[0];
    size_t i;
    for (i = 1; i < job.artifact_count; i++)
        if (job.artifacts[i].total_ns < least->total_ns)
            least = &job.artifacts[i];
    fprintf(stderr, "progress %lld %zu\n", (long long)least->total_ns, least->count);
}

void put_windows(void) {
    void ***feeds[MAX_ARTIFACTS];
    int64_t begin, repetition = 0;
    size_t i, at;
    const char *ended = "complete";
    if (!job.order_count || !job.plan[WINDOW])
        fail(2, "the job needs a plan and an order");
    for (at = 0; at < job.sample_count; at++)
        read_sample(&job.samples[at]);
    for (i = 0; i < job.artifact_count; i++) {
        load(&job.artifacts[i], NULL);
        feeds[i] = grown(NULL, job.sample_count, sizeof **feeds);
        for (at = 0; at < job.sample_count; at++)
            feeds[i][at] = bound(&job.artifacts[i], &job.samples[at], NULL);
    }
    for (i = 0; i < job.artifact_count; i++)
        warm_up(&job.artifacts[i], i, feeds[i]);
    put_host();
    if (job.state_count)
        fprintf(out, "carried\n");
    begin = now_ns();
    put_evidence();
    for (; repetition < job.plan[MIN_REPETITIONS] || !enough(); repetition++) {
        size_t count = job.orders[(size_t)repetition % job.order_count].count;
        const int *slots = job.orders[(size_t)repetition % job.order_count].slots;
        if (now_ns() - begin > job.plan[MAX_TIME]) {
            ended = "max_s";
            break;
        }
        for (i = 0; i < 2 * count; i++) {
            int slot = slots[i < count ? i : 2 * count - 1 - i];
            measured_window(&job.artifacts[slot], slot, repetition, feeds[slot]);
        }
        say_progress();
    }
    fprintf(out, "ended %s\n", ended);
}

