// Helpers between the bindings in transform.h and C: JSON in, publications and rejections out.

#ifndef SLIPRING_H
#define SLIPRING_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transform.h"
#include "yyjson.h"

// The bindings refer to an object file that names the world. It is not needed here, because the relay recognises the
// world by the exports.
void __component_type_object_force_link_transform(void) {}

// Prints the place of an abort(), which would be lost otherwise. The reason is the text that the program printed
// before it.
#define abort() (fflush(NULL), fprintf(stderr, "\naborted (%s:%d)\n", __FILE__, __LINE__), abort())

// Rejects the message with a reason: `return reject(reason, …)`.
static inline bool reject(transform_string_t *reason, const char *format, ...) {
  char text[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  // The bindings free the reason, so it must not be static.
  transform_string_dup(reason, text);
  return false;
}

// Reads the value of a field. Rejects the message if the field is missing or has another type.
static inline bool field(yyjson_val *object, const char *name, yyjson_type type, yyjson_val **value, transform_string_t *reason) {
  *value = yyjson_obj_get(object, name);
  if (!*value) return reject(reason, "%s: missing", name);
  if (yyjson_get_type(*value) != type) return reject(reason, "%s: of the wrong type", name);
  return true;
}

// Reads a whole number in the same way.
static inline bool whole(yyjson_val *object, const char *name, uint64_t maximum, uint64_t *number, transform_string_t *reason) {
  yyjson_val *value = yyjson_obj_get(object, name);
  if (!value) return reject(reason, "%s: missing", name);
  if (!yyjson_is_uint(value) || yyjson_get_uint(value) > maximum) {
    return reject(reason, "%s: not a whole number up to %" PRIu64, name, maximum);
  }
  *number = yyjson_get_uint(value);
  return true;
}

static inline bool is_text(const transform_string_t *string, const char *text) {
  return string->len == strlen(text) && memcmp(string->ptr, text, string->len) == 0;
}

// Returns true if the message has no payload because a key was deleted or expired: in a key-value bucket, or in a
// stream whose messages expire.
static inline bool is_marker(const transform_message_t *message) {
  for (size_t index = 0; index < message->headers.len; index++) {
    const transform_tuple2_string_string_t *header = &message->headers.ptr[index];
    if (is_text(&header->f0, "Nats-Marker-Reason")) return true;
    if (is_text(&header->f0, "KV-Operation") && !is_text(&header->f1, "PUT")) return true;
  }
  return false;
}

// Reads the payload as JSON. The caller frees the result with `yyjson_doc_free`. Returns NULL and rejects the
// message if it is not JSON.
static inline yyjson_doc *parse(const transform_message_t *message, transform_string_t *reason) {
  yyjson_read_err error;
  yyjson_doc *document = yyjson_read_opts((char *)message->payload.ptr, message->payload.len, 0, NULL, &error);
  if (!document) reject(reason, "the payload is not JSON: %s at byte %zu", error.msg, error.pos);
  return document;
}

static inline void drop(transform_list_publication_t *publications) { *publications = (transform_list_publication_t){NULL, 0}; }

// Publishes `data`, a JSON text, on `channel`, and nothing else. Set other fields in the returned publication.
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
