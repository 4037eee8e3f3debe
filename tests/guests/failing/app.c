// Fails in the way that a message's subject names, to see what the relay says of it.

#include <assert.h>
#include <errno.h>

#include "slipring.h"

static volatile int zero = 0;

static int recursion(volatile int n) { return recursion(n + 1) + n; }

bool exports_transform_init(transform_string_t *settings, transform_string_t *reason) {
  (void)reason;
  assert(settings->len < 5);
  transform_string_free(settings);
  return true;
}

bool exports_transform_transform(transform_message_t *message, transform_list_publication_t *publications,
                                 transform_string_t *reason) {
  char subject[32];
  snprintf(subject, sizeof subject, "%.*s", (int)message->subject.len, (char *)message->subject.ptr);
  if (!strcmp(subject, "abort")) abort();
  if (!strcmp(subject, "assert")) assert(message->payload.len == 0);
  if (!strcmp(subject, "said")) {
    fprintf(stderr, "the order has no lines\n");
    abort();
  }
  if (!strcmp(subject, "perror")) {
    errno = ENOMEM;
    perror("reading the order");
    exit(3);
  }
  if (!strcmp(subject, "exit")) exit(3);
  if (!strcmp(subject, "divide")) zero = 1 / zero;
  if (!strcmp(subject, "trap")) __builtin_trap();
  if (!strcmp(subject, "bounds")) zero = *(volatile int *)0x7fffff00;
  if (!strcmp(subject, "recursion")) zero = recursion(1);
  if (!strcmp(subject, "memory")) {
    for (;;) memset(malloc(1 << 20), 1, 1 << 20);
  }
  if (!strcmp(subject, "reject")) return reject(reason, "no such order");
  drop(publications);
  transform_message_free(message);
  return true;
}
