// wire/convert_list.h - lists of messages and digests, bounded. For the convert_*.cc of this room.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "google/protobuf/repeated_field.h"
#include "wire/bounds.h"
#include "wire/convert_control.h"  // These declare what the templates below call: argument-dependent lookup does not find it.
#include "wire/convert_link.h"
#include "wire/convert_member.h"
#include "wire/convert_record.h"

namespace cenote::wire {

// Each entry through from_proto(); the first error ends it.
template <typename Proto, typename Message>
absl::Status read_list(std::string_view field, const google::protobuf::RepeatedPtrField<Proto>& list, size_t limit,
                       std::vector<Message>* out) {
  CENOTE_RETURN_IF_ERROR(check_count(field, list.size(), limit));
  out->reserve(list.size());
  for (const Proto& entry : list) {
    auto message = from_proto(entry);
    if (!message.ok()) return annotate(message.status(), field);
    out->push_back(*std::move(message));
  }
  return absl::OkStatus();
}

template <typename Message, typename Proto>
void write_list(const std::vector<Message>& list, google::protobuf::RepeatedPtrField<Proto>* out) {
  out->Reserve(static_cast<int>(list.size()));
  for (const Message& entry : list) to_proto(entry, out->Add());
}

inline absl::Status read_digests(std::string_view field, const google::protobuf::RepeatedPtrField<std::string>& list,
                                 size_t limit, std::vector<Digest>* out) {
  CENOTE_RETURN_IF_ERROR(check_count(field, list.size(), limit));
  out->reserve(list.size());
  for (const std::string& bytes : list) {
    CENOTE_ASSIGN_OR_RETURN(const Digest digest, digest_of(field, bytes));
    out->push_back(digest);
  }
  return absl::OkStatus();
}

inline void write_digests(const std::vector<Digest>& list, google::protobuf::RepeatedPtrField<std::string>* out) {
  out->Reserve(static_cast<int>(list.size()));
  for (const Digest& digest : list) *out->Add() = digest_bytes(digest);
}

inline absl::Status read_names(std::string_view field, const google::protobuf::RepeatedPtrField<std::string>& list, size_t limit,
                               std::vector<std::string>* out) {
  CENOTE_RETURN_IF_ERROR(check_count(field, list.size(), limit));
  for (const std::string& name : list) CENOTE_RETURN_IF_ERROR(check_text(field, name, kNameBytesMax));
  out->assign(list.begin(), list.end());
  return absl::OkStatus();
}

inline void write_names(const std::vector<std::string>& list, google::protobuf::RepeatedPtrField<std::string>* out) {
  out->Reserve(static_cast<int>(list.size()));
  for (const std::string& name : list) *out->Add() = name;
}

}  // namespace cenote::wire
