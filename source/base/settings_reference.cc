// settings/REFERENCE.md from the schema; tests/unit/base compares it with the file.
#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "base/settings.h"
#include "base/settings_schema.h"
#include "base/text.h"

namespace cenote {
namespace {

constexpr std::string_view kOpening = R"(# Settings

Made from `settings/schema.json`: `UPDATE_GOLDEN=1 build/dev/bin/base_settings_test` writes it; the same test fails when it is stale.

One TOML file describes a cluster. What it leaves out has the default below. `CENOTE_` variables override the file, flags override both:

    [controller]                            CENOTE_CONTROLLER_PORT=7800            --set controller.port=7800
    port = 7800

    [[agent]]                               CENOTE_AGENT_0_CACHE_CAPACITY="4 GiB"  --set agent[0].cache_capacity="4 GiB"
    cache_capacity = "4 GiB"                CENOTE_AGENT_CACHE_CAPACITY (of all)   --set agent.cache_capacity="4 GiB" (of all)

Sizes: a number of bytes, or text with B, KiB, MiB, GiB, TiB, KB, MB, GB, TB. Durations: text with ns, us, ms, s, min, h.
`{index}` in a default is the table's place in the file, from 0. Unknown keys and impossible values are refused, all at once.
)";

std::string allowed(const SettingKey& key) {
  if (!key.values.empty()) return absl::StrJoin(key.values, ", ");
  if (key.min && key.max) return str_cat(key.min_text, " to ", key.max_text);
  return "";
}

std::string cell(std::string_view text) {
  return absl::StrReplaceAll(to_absl(text), {{"|", "\\|"}});
}

void write_table(const SettingTable& table, const std::string& path, std::string& out) {
  if (!path.empty()) {
    str_append(&out, "\n## ", table.array ? "[[" : "[", path, table.array ? "]]" : "]", "\n\n",
               table.description);
    if (table.array) str_append(&out, " ", table.count_min, " to ", table.count_max, " tables.");
    str_append(&out,
               "\n\n| Key | Type | Default | Allowed | Meaning | Example |\n|---|---|---|---|---|---|\n");
    for (const SettingKey& key : table.keys) {
      str_append(&out, "| `", key.name, "` | ", key.type_name, key.unit.empty() ? "" : ", ", key.unit, " | `",
                 cell(key.default_text), "` | ", cell(allowed(key)), " | ", cell(key.description), " | `",
                 cell(key.example), "` |\n");
    }
  }
  for (const SettingTable& child : table.tables) {
    write_table(child, path.empty() ? child.name : str_cat(path, ".", child.name), out);
  }
}

}  // namespace

std::string settings_reference() {
  std::string out(kOpening);
  write_table(settings_schema(), "", out);
  return out;
}

}  // namespace cenote
