// Publishes each order to its own channel, as examples/orders does in Rust.

#include "slipring.h"

static const char *const STATUSES[] = {"draft", "paid", "shipped", "delivered"};

typedef struct {
  uint64_t id, revision, items, total_cents;
  const char *status;
} order;

static bool read_order(yyjson_val *object, order *found, transform_string_t *reason) {
  yyjson_val *status, *lines, *line;
  if (!whole(object, "id", UINT64_MAX, &found->id, reason)) return false;
  if (!whole(object, "revision", UINT64_MAX, &found->revision, reason)) return false;
  if (!field(object, "status", YYJSON_TYPE_STR, &status, reason)) return false;
  for (size_t i = 0; i < sizeof STATUSES / sizeof *STATUSES; i++) {
    if (yyjson_equals_str(status, STATUSES[i])) found->status = STATUSES[i];
  }
  if (!found->status) return reject(reason, "status: none of draft, paid, shipped, delivered");
  if (!field(object, "lines", YYJSON_TYPE_ARR, &lines, reason)) return false;
  size_t index, count;
  yyjson_arr_foreach(lines, index, count, line) {
    uint64_t quantity, price_cents;
    if (!whole(line, "quantity", UINT32_MAX, &quantity, reason)) return false;
    if (!whole(line, "price_cents", UINT32_MAX, &price_cents, reason)) return false;
    found->items += quantity;
    found->total_cents += quantity * price_cents;
  }
  return true;
}

static void show(const order *order, transform_list_publication_t *publications) {
  char channel[64], view[128];
  snprintf(channel, sizeof channel, "orders:%" PRIu64, order->id);
  snprintf(view, sizeof view, "{\"status\":\"%s\",\"items\":%" PRIu64 ",\"total_cents\":%" PRIu64 "}", order->status,
           order->items, order->total_cents);
  publish(publications, channel, view)->version = (transform_option_u64_t){true, order->revision};
}

// `settings` is the [settings] of orders.toml as a JSON text. This module has none.
bool exports_transform_init(transform_string_t *settings, transform_string_t *reason) {
  (void)reason;
  transform_string_free(settings);
  return true;
}

// Returns true with the publications, where an empty list drops the message, or false with the reason, which rejects
// it.
bool exports_transform_transform(transform_message_t *message, transform_list_publication_t *publications,
                                 transform_string_t *reason) {
  yyjson_doc *document = parse(message, reason);
  order order = {0};
  bool good = document && read_order(yyjson_doc_get_root(document), &order, reason);
  if (good && strcmp(order.status, "draft") == 0) {
    drop(publications);
  } else if (good) {
    show(&order, publications);
  }
  yyjson_doc_free(document);
  transform_message_free(message);
  return good;
}
