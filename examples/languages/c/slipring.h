// Between the bindings in transform.h and C: JSON in, publications and rejections out.

#ifndef SLIPRING_H
#define SLIPRING_H

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

// The bindings want to be linked with an object file that says which world this is of. It is not here: the relay knows by the
// exports.
void __component_type_object_force_link_transform(void) {}

// A piece of JSON, and where in the text it is.
typedef struct {
  const char *text;
  const jsmntok_t *tokens;
  int at, end;
} json;

// Rejects the message, with the reason: `return reject(reason, …)`.
static inline bool reject(transform_string_t *reason, const char *format, ...) {
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
static inline int behind(json value) {
  int end = value.tokens[value.at].end;
  int next = value.at + 1;
  while (next < value.end && value.tokens[next].start < end) next++;
  return next;
}

// Whether it is this string, which has to be without escapes.
static inline bool is(json value, const char *text) {
  const jsmntok_t *token = &value.tokens[value.at];
  size_t length = token->end - token->start;
  return token->type == JSMN_STRING && length == strlen(text) && memcmp(value.text + token->start, text, length) == 0;
}

// The value of a field of this type; if there is none, the message is rejected.
static inline bool field(json object, const char *name, jsmntype_t type, json *value, transform_string_t *reason) {
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

// The same for a whole number.
static inline bool whole(json object, const char *name, uint64_t maximum, uint64_t *number, transform_string_t *reason) {
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

// The payload as what its JSON says, with memory for `tokens` that the caller frees.
static inline bool parse(const transform_message_t *message, json *value, jsmntok_t **tokens, transform_string_t *reason) {
  const char *text = (const char *)message->payload.ptr;
  jsmn_parser parser;
  *tokens = NULL;
  jsmn_init(&parser);
  int count = jsmn_parse(&parser, text, message->payload.len, NULL, 0);
  if (count < 1) return reject(reason, "the payload is not JSON");
  *tokens = calloc(count, sizeof **tokens);
  if (!*tokens) abort();
  jsmn_init(&parser);
  count = jsmn_parse(&parser, text, message->payload.len, *tokens, count);
  if (count < 1) return reject(reason, "the payload is not JSON");
  *value = (json){text, *tokens, 0, count};
  return true;
}

static inline void drop(transform_list_publication_t *publications) { *publications = (transform_list_publication_t){NULL, 0}; }

// Makes it all that is published: `data`, a JSON text, on `channel`. What else it shall have is set in what is returned.
static inline transform_publication_t *publish(transform_list_publication_t *publications, const char *channel, const char *data) {
  transform_publication_t *publication = calloc(1, sizeof *publication);
  transform_string_t *name = malloc(sizeof *name);
  if (!publication || !name) abort();
  transform_string_dup(name, channel);
  publication->channels = (transform_list_string_t){name, 1};
  publication->body.tag = SLIPRING_TRANSFORM_TYPES_BODY_JSON;
  transform_string_dup(&publication->body.val.json, data);
  *publications = (transform_list_publication_t){publication, 1};
  return publication;
}

#endif
