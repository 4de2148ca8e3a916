// completions.h - waiting for transfers that were posted: what readers and writers of the pool do alike. Loop-affine, as the Transport.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "base/status.h"
#include "base/text.h"
#include "fabric/transport.h"

namespace cenote::native {

// Takes what has completed, after a wait of at most 50 ms if nothing has. The first transfer that failed ends it, as `failed` with its code.
inline absl::Status take_completions(fabric::Transport& transport, std::string_view failed) {
  std::array<fabric::Completion, 64> completions;
  size_t count = transport.poll(completions);
  if (count == 0) {
    transport.wait(Duration::from_ms(50));
    count = transport.poll(completions);
  }
  for (const fabric::Completion& completion : std::span(completions).first(count)) {
    if (completion.code != absl::StatusCode::kOk) return absl::Status(completion.code, to_absl(failed));
  }
  return absl::OkStatus();
}

}  // namespace cenote::native
