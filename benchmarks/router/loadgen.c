// A load client that costs little: closed loop, keep-alive, one thread. Prints one line of JSON.
//
//   gcc -O2 -o loadgen loadgen.c
//   ./loadgen port=18080 connections=32 seconds=5 stream=1 pace=0 model=u-8105f7322477/fake
//   key=ck-…
//
//   port, connections, seconds    where, how many at once, how long new requests are sent
//   stream=0                      1: ask for a stream
//   pace=0                        goes out as "seed": the fake engine's pace (see engine.c)
//   usage=1                       0: a stream without stream_options.include_usage
//   tokens=64                     content chunks that make a whole stream
//   image=0                       bytes of base64 in an image_url of each request
//   abort=0                       N: each N-th request is cut at the first bytes of its body
//   ramp_ms=0                     the connections start spread over so long
//   warm_ms=0                     requests begun before this are not in the percentiles
//   model=fake, key=              what clients send
//
// Requests under way at the end are waited for, 5 s at most, so that counts match the CPU spent.
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PROMPTS 64
#define MAX_ERRORS 20000
#define MAX_SAMPLES 4000000
#define DRAIN_S 5
#define GOES_IN_ONE_WRITE 60000

enum state { HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };
enum verdict { MORE, COMPLETE, CUT, WRONG };

static struct {
    long port, connections, stream, pace, usage, tokens, image, abort, ramp_ms, warm_ms;
    double seconds;
    const char *model, *key;
} asked = {.connections = 1, .usage = 1, .tokens = 64, .seconds = 1, .model = "fake", .key = ""};

typedef struct {
    int fd, request, sent, busy;
    enum state state;
    char head[8192], line[64];
    int head_length, line_length, status, close_after, cut, events, after_newline;
    long left; // bytes of the body or of the chunk
    double began, first_byte, starts_at;
} connection;

static char *requests[PROMPTS];
static int request_length[PROMPTS];
static int epoll, busy;
static double end, warm;
static double *first_byte_s, *whole_s;
static long samples, done, errors, not_200, too_short, cut, events, bytes;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void watch(connection *c, int operation, int for_room) {
    struct epoll_event wanted = {.events = EPOLLIN | EPOLLRDHUP | (for_room ? EPOLLOUT : 0),
                                 .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &wanted);
}

static int connect_to(connection *c) {
    int on = 1;
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons(asked.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (void *)&where, sizeof where)) {
        close(c->fd);
        c->fd = -1;
        return -1;
    }
    ioctl(c->fd, FIONBIO, &on);
    watch(c, EPOLL_CTL_ADD, 0);
    return 0;
}

static void hang_up(connection *c) {
    if (c->fd >= 0) {
        close(c->fd);
    }
    c->fd = -1;
}

static void retire(connection *c) {
    busy -= c->busy;
    c->busy = 0;
}

// Send what the socket takes of the request; the rest when there is room.
static void push(connection *c) {
    int length = request_length[c->request], waited = c->sent > 0;
    while (c->sent < length) {
        ssize_t n = send(c->fd, requests[c->request] + c->sent, length - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            watch(c, EPOLL_CTL_MOD, 1);
            return;
        }
        c->sent += n;
        waited |= c->sent < length;
    }
    if (waited || length > GOES_IN_ONE_WRITE) {
        watch(c, EPOLL_CTL_MOD, 0);
    }
}

static void ask(connection *c) {
    static int number;
    if (now() >= end) {
        retire(c);
        return;
    }
    if (c->fd < 0 && connect_to(c) < 0) {
        errors++;
        retire(c);
        return;
    }
    number++;
    c->request = number % PROMPTS;
    c->cut = asked.abort && number % asked.abort == 0;
    c->state = HEAD;
    c->sent = c->head_length = c->line_length = c->status = c->close_after = 0;
    c->events = c->after_newline = 0;
    c->first_byte = 0;
    c->began = now();
    busy += !c->busy;
    c->busy = 1;
    push(c);
}

static void fail(connection *c) {
    hang_up(c);
    if (++errors > MAX_ERRORS) {
        retire(c);
    } else {
        ask(c);
    }
}

static void finish(connection *c) {
    double at = now();
    done++;
    if (c->status != 200) {
        not_200++;
    } else if (asked.stream && c->events < asked.tokens + 1 + asked.usage) {
        too_short++;
    }
    if (c->began >= warm && c->status == 200 && samples < MAX_SAMPLES) {
        first_byte_s[samples] = (c->first_byte ? c->first_byte : at) - c->began;
        whole_s[samples++] = at - c->began;
    }
    if (c->close_after) {
        hang_up(c);
    }
    ask(c);
}

// Count the blank lines: one ends each event.
static void count_events(connection *c, const char *p, long n) {
    const char *stop = p + n;
    if (c->after_newline && n && *p == '\n') {
        c->events++, events++;
        p++;
    }
    c->after_newline = 0;
    while (p < stop && (p = memchr(p, '\n', stop - p))) {
        if (++p == stop) {
            c->after_newline = 1;
        } else if (*p == '\n') {
            c->events++, events++;
            p++;
        }
    }
}

static void take_body(connection *c, const char *p, long n) {
    if (!c->first_byte) {
        c->first_byte = now();
    }
    bytes += n;
    if (asked.stream) {
        count_events(c, p, n);
    }
}

// Take head bytes; return how many of the n, -1 when the head is longer than any that we know.
static long take_head(connection *c, const char *p, long n) {
    int before = c->head_length, room = sizeof c->head - 1 - before;
    int taken = n < room ? n : room;
    memcpy(c->head + before, p, taken);
    c->head_length += taken;
    c->head[c->head_length] = 0;
    char *stop = memmem(c->head, c->head_length, "\r\n\r\n", 4), *found;
    if (!stop) {
        return taken ? taken : -1;
    }
    stop[2] = 0;
    c->status = atoi(c->head + 9);
    c->close_after = strcasestr(c->head, "\r\nconnection: close") != NULL;
    c->state = UNTIL_CLOSE;
    if ((found = strcasestr(c->head, "\r\ncontent-length:"))) {
        c->left = atol(found + 17);
        c->state = BODY;
    } else if (strcasestr(c->head, "\r\ntransfer-encoding:")) {
        c->state = CHUNK_SIZE;
    }
    return stop + 4 - c->head - before;
}

// Take one line, without its end, into c->line; return how many bytes, and in *ended whether all.
static long take_line(connection *c, const char *p, long n, int *ended) {
    for (long i = 0; i < n; i++) {
        if (p[i] == '\n') {
            c->line[c->line_length] = 0;
            *ended = 1;
            return i + 1;
        }
        if (p[i] != '\r' && c->line_length < (int)sizeof c->line - 1) {
            c->line[c->line_length++] = p[i];
        }
    }
    return n;
}

static enum verdict take(connection *c, const char *p, long n) {
    for (long i = 0, used, ended; i < n; i += used) {
        long part = n - i < c->left ? n - i : c->left;
        int line_ended = 0;
        ended = 0;
        switch (c->state) {
        case HEAD:
            if ((used = take_head(c, p + i, n - i)) < 0) {
                return WRONG;
            }
            ended = c->state == BODY && c->left == 0;
            break;
        case BODY:
            take_body(c, p + i, used = part);
            ended = (c->left -= used) == 0;
            break;
        case CHUNK_SIZE:
            used = take_line(c, p + i, n - i, &line_ended);
            if (line_ended) {
                c->left = strtol(c->line, NULL, 16);
                c->state = c->left ? CHUNK_DATA : TRAILER;
                c->line_length = 0;
            }
            break;
        case CHUNK_DATA:
            take_body(c, p + i, used = part);
            if ((c->left -= used) == 0) {
                c->state = CHUNK_END;
            }
            break;
        case CHUNK_END:
            used = take_line(c, p + i, n - i, &line_ended);
            if (line_ended) {
                c->state = CHUNK_SIZE;
                c->line_length = 0;
            }
            break;
        case TRAILER:
            used = take_line(c, p + i, n - i, &line_ended);
            ended = line_ended && c->line_length == 0;
            c->line_length = line_ended ? 0 : c->line_length;
            break;
        default:
            take_body(c, p + i, used = n - i);
        }
        if (c->cut && c->first_byte) {
            return CUT;
        }
        if (ended) {
            return COMPLETE;
        }
    }
    return MORE;
}

static void receive(connection *c) {
    static char buffer[262144];
    ssize_t n = recv(c->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno == EAGAIN) {
        return;
    }
    if (n <= 0 && !c->busy) {
        hang_up(c);
        return;
    }
    if (n <= 0) {
        if (n == 0 && c->state == UNTIL_CLOSE) {
            c->close_after = 1;
            finish(c);
        } else {
            fail(c);
        }
        return;
    }
    switch (take(c, buffer, n)) {
    case COMPLETE:
        finish(c);
        break;
    case CUT:
        cut++;
        hang_up(c);
        ask(c);
        break;
    case WRONG:
        fail(c);
        break;
    case MORE:
        break;
    }
}

static int put_content(char *at, int number) {
    static const char text[] =
        "please look at the following paragraph and tell me what it is about. Lorem ipsum dolor "
        "sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et "
        "dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris "
        "nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in "
        "voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint occaecat "
        "cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum. "
        "Sed ut perspiciatis unde omnis iste natus error sit voluptatem accusantium doloremque "
        "laudantium, totam rem aperiam, eaque ipsa quae ab illo inventore veritatis et quasi "
        "architecto beatae vitae dicta sunt explicabo.";
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if (!asked.image) {
        return sprintf(at, "\"%04d: %s\"", number * 37, text);
    }
    int n = sprintf(at,
                    "[{\"type\":\"text\",\"text\":\"%04d: %s\"},{\"type\":\"image_url\","
                    "\"image_url\":{\"url\":\"data:image/png;base64,",
                    number * 37, text);
    for (long i = 0; i < asked.image; i++) {
        at[n++] = digits[(i * 7 + number + (i >> 6)) & 63];
    }
    return n + sprintf(at + n, "\"}}]");
}

static void build_request(int number) {
    char *body = malloc(4096 + asked.image);
    int n = sprintf(body,
                    "{\"model\":\"%s\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a "
                    "helpful assistant. Answer briefly and to the point.\"},{\"role\":\"user\","
                    "\"content\":",
                    asked.model);
    n += put_content(body + n, number);
    n +=
        sprintf(body + n, "}],\"temperature\":0.7,\"max_tokens\":%ld,\"stream\":%s%s,\"seed\":%ld}",
                asked.tokens, asked.stream ? "true" : "false",
                asked.stream && asked.usage ? ",\"stream_options\":{\"include_usage\":true}" : "",
                asked.pace);
    request_length[number] = asprintf(
        &requests[number],
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\n"
        "Authorization: Bearer %s\r\nContent-Type: application/json\r\nAccept: %s\r\n"
        "User-Agent: loadgen\r\nContent-Length: %d\r\n\r\n%s",
        asked.port, asked.key, asked.stream ? "text/event-stream" : "application/json", n, body);
    free(body);
}

static void run(connection *all) {
    struct epoll_event ready[512];
    int started = 0;
    for (;;) {
        double t = now();
        while (started < asked.connections && all[started].starts_at <= t) {
            ask(&all[started++]);
        }
        if ((started == asked.connections && busy == 0) || t > end + DRAIN_S) {
            return;
        }
        int n = epoll_wait(epoll, ready, 512, started < asked.connections ? 1 : 100);
        for (int i = 0; i < n; i++) {
            connection *c = ready[i].data.ptr;
            if (c->fd >= 0 && ready[i].events & EPOLLOUT) {
                push(c);
            }
            if (c->fd >= 0 && ready[i].events & ~EPOLLOUT) {
                receive(c);
            }
        }
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(double *)a, y = *(double *)b;
    return x < y ? -1 : x > y;
}

static double percentile_ms(double *sorted, double q) {
    return samples ? sorted[(long)((samples - 1) * q)] * 1e3 : 0;
}

static void print_result(double elapsed) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    qsort(first_byte_s, samples, sizeof(double), by_size);
    qsort(whole_s, samples, sizeof(double), by_size);
    printf("{\"done\":%ld,\"errors\":%ld,\"not_200\":%ld,\"too_short\":%ld,\"unfinished\":%d,"
           "\"cut\":%ld,\"elapsed_s\":%.3f,\"rps\":%.1f,\"events\":%ld,\"bytes\":%ld,",
           done, errors, not_200, too_short, busy, cut, elapsed, done / elapsed, events, bytes);
    printf("\"samples\":%ld,\"ttft_ms_p50\":%.3f,\"ttft_ms_p99\":%.3f,\"whole_ms_p50\":%.3f,"
           "\"whole_ms_p99\":%.3f,\"client_cpu_s\":%.3f}\n",
           samples, percentile_ms(first_byte_s, .5), percentile_ms(first_byte_s, .99),
           percentile_ms(whole_s, .5), percentile_ms(whole_s, .99),
           used.ru_utime.tv_sec + used.ru_stime.tv_sec +
               (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6);
}

static void read_argument(const char *argument) {
    static const struct {
        const char *name;
        long *value;
    } numbers[] = {{"port", &asked.port},       {"connections", &asked.connections},
                   {"stream", &asked.stream},   {"pace", &asked.pace},
                   {"usage", &asked.usage},     {"tokens", &asked.tokens},
                   {"image", &asked.image},     {"abort", &asked.abort},
                   {"ramp_ms", &asked.ramp_ms}, {"warm_ms", &asked.warm_ms}};
    const char *value = strchr(argument, '=');
    size_t length = value ? (size_t)(value++ - argument) : 0;
    for (size_t i = 0; length && i < sizeof numbers / sizeof *numbers; i++) {
        if (strlen(numbers[i].name) == length && !strncmp(numbers[i].name, argument, length)) {
            *numbers[i].value = atol(value);
            return;
        }
    }
    if (length && !strncmp(argument, "seconds=", length + 1)) {
        asked.seconds = atof(value);
    } else if (length && !strncmp(argument, "model=", length + 1)) {
        asked.model = value;
    } else if (length && !strncmp(argument, "key=", length + 1)) {
        asked.key = value;
    } else {
        fprintf(stderr, "loadgen: %s? The head of loadgen.c says what there is\n", argument);
        exit(2);
    }
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        read_argument(argv[i]);
    }
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < PROMPTS; i++) {
        build_request(i);
    }
    first_byte_s = malloc(MAX_SAMPLES * sizeof(double));
    whole_s = malloc(MAX_SAMPLES * sizeof(double));
    epoll = epoll_create1(0);
    connection *all = calloc(asked.connections, sizeof *all);
    double began = now();
    end = began + asked.seconds;
    warm = began + asked.warm_ms / 1e3;
    for (int i = 0; i < asked.connections; i++) {
        all[i].fd = -1;
        all[i].starts_at = began + asked.ramp_ms / 1e3 * i / asked.connections;
    }
    run(all);
    print_result(now() - began);
}
