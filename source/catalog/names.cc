#include "catalog/names.h"

#include "absl/strings/ascii.h"
#include "base/status.h"
#include "base/text.h"

namespace cenote {
namespace {

// What was given, short enough for a message and without control characters.
std::string shown(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, 64))
    out.push_back(absl::ascii_isprint(static_cast<unsigned char>(c)) ? c : '?');
  return text.size() > 64 ? out + "..." : out;
}

absl::Status check_word(std::string_view what, std::string_view word, size_t size_max) {
  if (word.empty())
    return absl::InvalidArgumentError(
        str_cat(what, " is empty: write such as resnet152, gpt2:stable or gpt2@1f2e3d"));
  if (word.size() > size_max) {
    return absl::InvalidArgumentError(
        str_cat(what, " '", shown(word), "' has ", word.size(), " characters, at most ", size_max));
  }
  for (char c : word) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '_' && c != '-') {
      return absl::InvalidArgumentError(
          str_cat(what, " '", shown(word), "': use letters, digits, '.', '_' and '-' only"));
    }
  }
  if (!absl::ascii_isalnum(static_cast<unsigned char>(word.front()))) {
    return absl::InvalidArgumentError(str_cat(what, " '", shown(word), "': begin with a letter or digit"));
  }
  return absl::OkStatus();
}

}  // namespace

std::string ModelRef::text() const {
  return digest_prefix.empty() ? str_cat(name, ":", tag) : str_cat(name, "@", digest_prefix);
}

absl::Status check_model_name(std::string_view name) {
  return check_word("model name", name, kModelNameBytesMax);
}
absl::Status check_tag(std::string_view tag) {
  return check_word("tag", tag, kTagBytesMax);
}

absl::StatusOr<ModelRef> parse_model_ref(std::string_view text) {
  ModelRef ref;
  const size_t at = text.find_first_of(":@");
  ref.name = text.substr(0, at);
  CENOTE_RETURN_IF_ERROR(check_model_name(ref.name));
  if (at == std::string_view::npos) {
    ref.tag = kDefaultTag;
    return ref;
  }
  const std::string_view rest = text.substr(at + 1);
  if (text[at] == ':') {
    CENOTE_RETURN_IF_ERROR(check_tag(rest));
    ref.tag = rest;
    ref.tag_written = true;
    return ref;
  }
  if (rest.size() < kDigestPrefixMin || rest.size() > 64) {
    return absl::InvalidArgumentError(
        str_cat("digest '", shown(rest), "' has ", rest.size(), " digits, use ", kDigestPrefixMin, " to 64"));
  }
  for (char c : rest) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) {
      return absl::InvalidArgumentError(str_cat("digest '", shown(rest), "' is not hexadecimal"));
    }
    ref.digest_prefix.push_back(absl::ascii_tolower(static_cast<unsigned char>(c)));
  }
  return ref;
}

}  // namespace cenote
