// Puts each order on a channel of its own, as examples/orders does in Rust.

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include "jsmn.h"
#include "transform.h"

// The bindings want to be linked with an object file that says which world this is of. It is not here: the relay knows by the exports.
void __component_type_object_force_link_transform(void) {}

// A piece of JSON, and where in the text it is.
typedef struct {
  const char *text;
  const jsmntok_t *tokens;
  int at, end;
} json;

static bool reject(transform_string_t *reason, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  // What is returned is freed by the bindings: nothing static may be given to them.
  transform_string_dup(reason, text);
  return false;
}

// Behind the value at `at`, with all that is in it.
static int behind(json value) {
  int end = value.tokens[value.at].end;
  int next = value.at + 1;
  while (next < value.end && value.tokens[next].start < end) next++;
  return next;
}

static bool is(json value, const char *text) {
  const jsmntok_t *token = &value.tokens[value.at];
  size_t length = token->end - token->start;
  return token->type == JSMN_STRING && length == strlen(text) && memcmp(value.text + token->start, text, length) == 0;
}

static bool field(json object, const char *name, jsmntype_t type, json *value, transform_string_t *reason) {
  if (object.tokens[object.at].type != JSMN_OBJECT) return reject(reason, "%s: it is not in an object", name);
  int end = behind(object);
  for (json key = {object.text, object.tokens, object.at + 1, end}; key.at + 1 < end;) {
    *value = (json){key.text, key.tokens, key.at + 1, end};
    if (is(key, name)) {
      if (value->tokens[value->at].type != type) return reject(reason, "%s: of the wrong type", name);
      return true;
    }
    key.at = behind(*value);
  }
  return reject(reason, "%s: missing", name);
}

static bool whole(json object, const char *name, uint64_t maximum, uint64_t *number, transform_string_t *reason) {
  json value;
  if (!field(object, name, JSMN_PRIMITIVE, &value, reason)) return false;
  const jsmntok_t *token = &value.tokens[value.at];
  *number = 0;
  for (int i = token->start; i < token->end; i++) {
    uint64_t digit = (uint64_t)value.text[i] - '0';
    if (digit > 9 || *number > (maximum - digit) / 10) {
      return reject(reason, "%s: not a whole number up to %" PRIu64, name, maximum);
    }
    *number = 10 * *number + digit;
  }
  return true;
}

static const char *const STATUSES[] = {"draft", "paid", "shipped", "delivered"};

typedef struct {
  uint64_t id, revision, items, total_cents;
  const char *status;
} order;

static bool read_order(json object, order *found, transform_string_t *reason) {
  json status, lines;
  if (!whole(object, "id", UINT64_MAX, &found->id, reason)) return false;
  if (!whole(object, "revision", UINT64_MAX, &found->revision, reason)) return false;
  if (!field(object, "status", JSMN_STRING, &status, reason)) return false;
  for (size_t i = 0; i < sizeof STATUSES / sizeof *STATUSES; i++) {
    if (is(status, STATUSES[i])) found->status = STATUSES[i];
  }
  if (!found->status) return reject(reason, "status: none of draft, paid, shipped, delivered");
  if (!field(object, "lines", JSMN_ARRAY, &lines, reason)) return false;
  int end = behind(lines);
  for (json line = {lines.text, lines.tokens, lines.at + 1, end}; line.at < end; line.at = behind(line)) {
    uint64_t quantity, price_cents;
    if (!whole(line, "quantity", UINT32_MAX, &quantity, reason)) return false;
    if (!whole(line, "price_cents", UINT32_MAX, &price_cents, reason)) return false;
    found->items += quantity;
    found->total_cents += quantity * price_cents;
  }
  return true;
}

static void publish(const order *order, transform_list_publication_t *publications) {
  char text[128];
  transform_publication_t *publication = calloc(1, sizeof *publication);
  transform_string_t *channel = malloc(sizeof *channel);
  if (!publication || !channel) abort();
  snprintf(text, sizeof text, "orders:%" PRIu64, order->id);
  transform_string_dup(channel, text);
  publication->channels = (transform_list_string_t){channel, 1};
  snprintf(text, sizeof text, "{\"status\":\"%s\",\"items\":%" PRIu64 ",\"total_cents\":%" PRIu64 "}", order->status,
           order->items, order->total_cents);
  publication->body.tag = SLIPRING_TRANSFORM_TYPES_BODY_JSON;
  transform_string_dup(&publication->body.val.json, text);
  publication->version = (transform_option_u64_t){true, order->revision};
  *publications = (transform_list_publication_t){publication, 1};
}

static bool orders(const char *text, size_t length, transform_list_publication_t *publications, transform_string_t *reason) {
  jsmn_parser parser;
  jsmn_init(&parser);
  int count = jsmn_parse(&parser, text, length, NULL, 0);
  if (count < 1) return reject(reason, "the payload is not JSON");
  jsmntok_t *tokens = calloc(count, sizeof *tokens);
  if (!tokens) abort();
  jsmn_init(&parser);
  count = jsmn_parse(&parser, text, length, tokens, count);
  order order = {0};
  bool good = count < 1 ? reject(reason, "the payload is not JSON")
                        : read_order((json){text, tokens, 0, count}, &order, reason);
  free(tokens);
  if (good && strcmp(order.status, "draft") == 0) {
    *publications = (transform_list_publication_t){NULL, 0};
  } else if (good) {
    publish(&order, publications);
  }
  return good;
}

// `settings` is the [settings] of orders.toml as a JSON text; there are none.
bool exports_transform_init(transform_string_t *settings, transform_string_t *reason) {
  (void)reason;
  transform_string_free(settings);
  return true;
}

// An empty list drops the message; false rejects it, and says why.
bool exports_transform_transform(transform_message_t *message, transform_list_publication_t *publications,
                                 transform_string_t *reason) {
  bool good = orders((const char *)message->payload.ptr, message->payload.len, publications, reason);
  transform_message_free(message);
  return good;
}
