// A fake engine that speaks as SGLang's OpenAI server does, and is far faster than any router.
//
//   gcc -O2 -o engine engine.c
//   ./engine PORT [TOKENS]        listens on 127.0.0.1; TOKENS (64) content chunks make a stream
//
// POST, any path: with "stream":true an SSE stream of TOKENS content chunks, a usage chunk and
// [DONE], each event an HTTP chunk of its own. The field "seed" of the request sets its pace:
//   0     all events in one write
//   1     one write per event, without delay
//   N     the first event at once, then one every N ms (at most 500)
// Without "stream":true: a canned chat.completion of about 700 bytes, at once.
// GET: /health says OK; /v1/models lists one model; anything else describes the server.
//
// One thread, epoll. Streams that are paced wait in a wheel of 1,024 slots of 1 ms each.
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_TOKENS 4000
#define EVENT_BYTES 400
#define SLOTS 1024
#define MAX_PACE_MS 500
#define LONGEST_SEARCHED 65536 // longer bodies (images) are taken for plain requests

#define HEAD_OF(object)                                                                            \
    "\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"" object                    \
    "\",\"created\":1764000000,\"model\":\"fake\","
#define CHUNK HEAD_OF("chat.completion.chunk")

typedef struct {
    char *bytes;
    int length;
} answer;

static answer plain, models, info, healthy;
static char *stream;                  // head and all events of a stream
static int event_end[MAX_TOKENS + 1]; // where each event ends in it
static int events;

typedef struct connection {
    int fd, closed, in_wheel, waits_for_room;
    char *in; // what has come and is not answered
    int in_length, in_capacity;
    long head_length, body_length; // head_length -1: the head is not complete
    int chunked;
    const char *out; // what is being answered; NULL: nothing
    int sent, may_send, out_length;
    int event, pace_ms; // the next event of a paced stream
    long began_ms;
    struct connection *next; // in a slot of the wheel, or in the list of unused ones
} connection;

static int epoll;
static connection *wheel[SLOTS], *unused;
static int waiting; // connections in the wheel
static long tick;   // the slot that was served last, ms

static long now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000L + t.tv_nsec / 1000000;
}

static answer answer_of(const char *type, const char *body) {
    answer made;
    made.length = asprintf(&made.bytes,
                           "HTTP/1.1 200 OK\r\ndate: Mon, 24 Nov 2025 12:00:00 GMT\r\n"
                           "server: uvicorn\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s",
                           type, strlen(body), body);
    return made;
}

static void build_answers(void) {
    plain = answer_of(
        "application/json",
        "{" HEAD_OF(
            "chat.completion") "\"choices\":[{\"index\":0,\"message\":{"
                               "\"role\":\"assistant\",\"content\":\"The quick brown fox jumps "
                               "over the lazy dog while "
                               "the router in front of the engine counts every single token that "
                               "passes by. It does so "
                               "without parsing more of the payload than it has to, which is the "
                               "whole point of this "
                               "canned answer of about seven hundred bytes in "
                               "all.\",\"tool_calls\":null},"
                               "\"logprobs\":null,\"finish_reason\":\"stop\",\"matched_stop\":null}"
                               "],\"usage\":{"
                               "\"prompt_tokens\":212,\"completion_tokens\":64,\"total_tokens\":"
                               "276,"
                               "\"prompt_tokens_details\":null},\"system_fingerprint\":null}");
    models = answer_of("application/json",
                       "{\"object\":\"list\",\"data\":[{\"id\":\"fake\",\"object\":\"model\","
                       "\"created\":1764000000,\"owned_by\":\"sglang\",\"root\":\"fake\","
                       "\"max_model_len\":32768}]}");
    info = answer_of("application/json",
                     "{\"model_path\":\"fake\",\"served_model_name\":\"fake\","
                     "\"tokenizer_path\":\"fake\",\"is_generation\":true,\"dp_size\":1,"
                     "\"tp_size\":1,\"version\":\"0.5.0\",\"status\":\"ready\","
                     "\"weight_version\":\"default\"}");
    healthy = answer_of("text/plain", "OK");
}

static int add_event(int at, const char *event) {
    return at + sprintf(stream + at, "%zx\r\n%s\r\n", strlen(event), event);
}

static void build_stream(int tokens) {
    char event[EVENT_BYTES];
    stream = malloc(1024 + (tokens + 2) * (EVENT_BYTES + 16));
    int at = sprintf(stream, "HTTP/1.1 200 OK\r\ndate: Mon, 24 Nov 2025 12:00:00 GMT\r\n"
                             "server: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                             "transfer-encoding: chunked\r\n\r\n");
    for (int i = 0; i < tokens; i++) {
        snprintf(event, sizeof event,
                 "data: {" CHUNK "\"choices\":[{\"index\":0,"
                 "\"delta\":{%s\"content\":\" token%02d\"},\"logprobs\":null,"
                 "\"finish_reason\":%s}]}\n\n",
                 i ? "" : "\"role\":\"assistant\",", i, i == tokens - 1 ? "\"stop\"" : "null");
        event_end[events++] = at = add_event(at, event);
    }
    snprintf(event, sizeof event,
             "data: {" CHUNK "\"choices\":[],\"usage\":{"
             "\"prompt_tokens\":212,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n",
             tokens, 212 + tokens);
    at = add_event(at, event);
    at = add_event(at, "data: [DONE]\n\n");
    at += sprintf(stream + at, "0\r\n\r\n");
    event_end[events++] = at; // usage and [DONE] go out together
}

static void watch(connection *c, int operation) {
    struct epoll_event wanted = {
        .events = EPOLLIN | EPOLLRDHUP | (c->waits_for_room ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &wanted);
}

static void wait_for_room(connection *c, int wanted) {
    if (c->waits_for_room != wanted) {
        c->waits_for_room = wanted;
        watch(c, EPOLL_CTL_MOD);
    }
}

static void give_back(connection *c) {
    c->next = unused;
    unused = c;
}

static void hang_up(connection *c) {
    if (c->closed) {
        return;
    }
    close(c->fd);
    c->closed = 1;
    if (!c->in_wheel) { // else the wheel gives it back
        give_back(c);
    }
}

// Send what may be sent now; -1: the client is gone.
static int push(connection *c) {
    while (c->sent < c->may_send) {
        ssize_t n = send(c->fd, c->out + c->sent, c->may_send - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            wait_for_room(c, 1);
            return 0;
        }
        if (n < 0) {
            hang_up(c);
            return -1;
        }
        c->sent += n;
    }
    wait_for_room(c, 0);
    return 0;
}

static void await_next_event(connection *c) {
    long due = c->began_ms + (long)c->event * c->pace_ms;
    if (due <= tick) {
        due = tick + 1;
    }
    c->next = wheel[due % SLOTS];
    wheel[due % SLOTS] = c;
    c->in_wheel = 1;
    waiting++;
}

static void begin(connection *c, const char *out, int length, int may_send) {
    c->out = out;
    c->out_length = length;
    c->may_send = may_send;
    c->sent = 0;
}

static void begin_stream(connection *c, int pace_ms) {
    int all = event_end[events - 1];
    if (pace_ms == 0) {
        begin(c, stream, all, all);
        push(c);
    } else if (pace_ms == 1) {
        begin(c, stream, all, 0);
        for (int i = 0; i < events; i++) {
            c->may_send = event_end[i];
            if (push(c) < 0) {
                return;
            }
        }
    } else {
        begin(c, stream, all, event_end[0]);
        c->pace_ms = pace_ms < MAX_PACE_MS ? pace_ms : MAX_PACE_MS;
        c->began_ms = now_ms();
        c->event = 1;
        if (push(c) == 0) {
            await_next_event(c);
        }
    }
}

static int asks_for_stream(const char *body, long length) {
    const char *found = length < LONGEST_SEARCHED ? memmem(body, length, "\"stream\":", 9) : NULL;
    if (!found) {
        return 0;
    }
    for (found += 9; found < body + length && *found == ' '; found++) {
    }
    return found < body + length && *found == 't';
}

static void answer_request(connection *c, const char *head, const char *body, long length) {
    if (head[0] == 'P' && asks_for_stream(body, length)) {
        const char *seed = memmem(body, length, "\"seed\":", 7);
        begin_stream(c, seed ? atoi(seed + 7) : 0);
        return;
    }
    answer *one = head[0] == 'P'                         ? &plain
                  : !strncmp(head, "GET /health", 11)    ? &healthy
                  : !strncmp(head, "GET /v1/models", 14) ? &models
                                                         : &info;
    begin(c, one->bytes, one->length, one->length);
    push(c);
}

// Read the head of the next request; 0: it is not complete.
static int read_head(connection *c) {
    char *end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
    if (!end) {
        return 0;
    }
    c->head_length = end + 4 - c->in;
    c->body_length = c->chunked = 0;
    for (char *line = c->in; line < end;) {
        if (!strncasecmp(line, "content-length:", 15)) {
            c->body_length = atol(line + 15);
        } else if (!strncasecmp(line, "transfer-encoding:", 18)) {
            c->chunked = 1;
        }
        line = (char *)memchr(line, '\n', end + 2 - line) + 1;
    }
    return 1;
}

// Return the length of the next request, 0 as long as it is not complete. A chunked body is used
// as it is: it is only searched.
static long request_length(connection *c) {
    if (c->head_length < 0 && !read_head(c)) {
        return 0;
    }
    if (c->chunked) {
        char *end = memmem(c->in + c->head_length, c->in_length - c->head_length, "0\r\n\r\n", 5);
        return end ? end + 5 - c->in : 0;
    }
    long length = c->head_length + c->body_length;
    return c->in_length < length ? 0 : length;
}

static void answer_what_came(connection *c) {
    long length;
    while (!c->closed && !c->out && c->in_length > 0 && (length = request_length(c))) {
        long head = c->head_length;
        c->head_length = -1;
        answer_request(c, c->in, c->in + head, length - head);
        if (c->closed) {
            return;
        }
        c->in_length -= length;
        memmove(c->in, c->in + length, c->in_length);
        if (c->sent == c->out_length) {
            c->out = NULL;
        }
    }
}

static void go_on(connection *c) {
    if (c->out && c->sent == c->out_length) {
        c->out = NULL;
        answer_what_came(c);
    }
}

static void receive(connection *c) {
    for (;;) {
        if (c->in_capacity - c->in_length < 4096) {
            c->in = realloc(c->in, c->in_capacity *= 2);
        }
        int room = c->in_capacity - c->in_length;
        ssize_t n = recv(c->fd, c->in + c->in_length, room, 0);
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n <= 0) {
            hang_up(c);
            return;
        }
        c->in_length += n;
        if (n < room) {
            break;
        }
    }
    answer_what_came(c);
}

static void welcome(int fd) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection *c = unused;
    connection kept = {.in = NULL};
    if (c) {
        unused = c->next;
        kept = *c;
    } else {
        c = malloc(sizeof *c);
    }
    *c = (connection){.fd = fd, .head_length = -1, .in = kept.in, .in_capacity = kept.in_capacity};
    if (!c->in) {
        c->in = malloc(c->in_capacity = 8192);
    }
    watch(c, EPOLL_CTL_ADD);
}

static void serve_slot(connection *c) {
    for (connection *next; c; c = next) {
        next = c->next;
        c->in_wheel = 0;
        waiting--;
        if (c->closed) {
            give_back(c);
            continue;
        }
        c->may_send = event_end[c->event++];
        if (push(c) < 0) {
            continue;
        }
        if (c->event < events) {
            await_next_event(c);
        } else {
            go_on(c);
        }
    }
}

static void serve_wheel(void) {
    for (long now = now_ms(); waiting && tick < now;) {
        tick++;
        connection *due = wheel[tick % SLOTS];
        wheel[tick % SLOTS] = NULL;
        serve_slot(due);
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in where = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(fd, (void *)&where, sizeof where) || listen(fd, 4096)) {
        perror("engine");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    int tokens = argc > 2 ? atoi(argv[2]) : 64;
    if (argc < 2 || tokens < 1 || tokens > MAX_TOKENS) {
        fprintf(stderr, "usage: engine PORT [TOKENS, at most %d]\n", MAX_TOKENS);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    build_answers();
    build_stream(tokens);
    int listener = listen_on(atoi(argv[1]));
    epoll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = NULL}, ready[512];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &wanted);
    for (;;) {
        int n = epoll_wait(epoll, ready, 512, waiting ? 1 : -1);
        if (!waiting) {
            tick = now_ms();
        }
        for (int i = 0; i < n; i++) {
            connection *c = ready[i].data.ptr;
            if (!c) {
                for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
                    welcome(fd);
                }
                continue;
            }
            if (!c->closed && ready[i].events & EPOLLOUT && push(c) == 0) {
                go_on(c);
            }
            if (!c->closed && ready[i].events & ~EPOLLOUT) {
                receive(c);
            }
        }
        serve_wheel();
    }
}
