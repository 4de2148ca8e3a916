#include "base/units.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "base/status.h"

namespace cenote {
namespace {

// Splits "1.5 GiB" into 1.5 and "GiB". False if there is no number or it is not finite and >= 0.
bool split_quantity(std::string_view text, double& number, std::string_view& unit) {
  const std::string_view trimmed = to_std(absl::StripAsciiWhitespace(to_absl(text)));
  size_t end = 0;
  while (end < trimmed.size() && (absl::ascii_isdigit(trimmed[end]) || trimmed[end] == '.')) ++end;
  if (end == 0 || !absl::SimpleAtod(to_absl(trimmed.substr(0, end)), &number)) return false;
  unit = to_std(absl::StripLeadingAsciiWhitespace(to_absl(trimmed.substr(end))));
  return std::isfinite(number) && number >= 0;
}

}  // namespace

absl::StatusOr<uint64_t> parse_bytes(std::string_view text) {
  static constexpr struct { std::string_view name; double factor; } kUnits[] = {
      {"", 1}, {"B", 1}, {"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"PiB", 0x1p50},
      {"KB", 1e3}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}};
  double number = 0;
  std::string_view unit;
  if (split_quantity(text, number, unit)) {
    for (const auto& known : kUnits) {
      if (unit == known.name && number * known.factor < 0x1p63) return static_cast<uint64_t>(number * known.factor);
    }
  }
  return absl::InvalidArgumentError(
      str_cat("size '", text, "': write a number with B, KiB, MiB, GiB, TiB, PiB, KB, MB, GB or TB, such as \"8 MiB\""));
}

std::string format_bytes(uint64_t bytes) {
  static constexpr const char* kNames[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kNames)) value /= 1024, ++unit;
  if (unit == 0) return str_cat(bytes, " B");
  if (value >= 100) return absl::StrFormat("%.0f %s", value, kNames[unit]);
  return absl::StrFormat("%.1f %s", value, kNames[unit]);
}

absl::StatusOr<Duration> parse_duration(std::string_view text) {
  static constexpr struct { std::string_view name; double ns; } kUnits[] = {
      {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"min", 60e9}, {"h", 3600e9}};
  double number = 0;
  std::string_view unit;
  if (split_quantity(text, number, unit)) {
    for (const auto& known : kUnits) {
      if (unit == known.name && number * known.ns < 0x1p62) return Duration{static_cast<int64_t>(number * known.ns)};
    }
  }
  return absl::InvalidArgumentError(
      str_cat("duration '", text, "': write a number with ns, us, ms, s, min or h, such as \"250ms\""));
}

std::string format_duration(Duration duration) {
  const double ns = static_cast<double>(duration.ns);
  if (std::abs(ns) < 1e3) return absl::StrFormat("%d ns", duration.ns);
  if (std::abs(ns) < 1e6) return absl::StrFormat("%.1f us", ns / 1e3);
  if (std::abs(ns) < 1e9) return absl::StrFormat("%.1f ms", ns / 1e6);
  if (std::abs(ns) < 120e9) return absl::StrFormat("%.2f s", ns / 1e9);
  return absl::StrFormat("%.1f min", ns / 60e9);
}

}  // namespace cenote
