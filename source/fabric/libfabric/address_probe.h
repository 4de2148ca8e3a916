// fabric/libfabric/address_probe.h - finds out whether an RDMA address can be resolved, without waiting for it.
//
// The verbs provider resolves a peer's address inside the call that begins to connect, and blocks there for 2 seconds where nobody answers
// (vrb_create_ep, libfabric 1.17 to 2.0): a dead host would hold up the transfers to all the others. The same question on an event channel
// of our own blocks nobody, and its answer stays in the kernel's neighbour table, where the provider then finds it at once. Single owner.
#pragma once

#include <cstdint>
#include <string>

struct rdma_cm_id;
struct rdma_event_channel;

namespace cenote::fabric {

class AddressProbe {
 public:
  enum class Answer : uint8_t { kNotYet, kUnreachable, kReachable };

  AddressProbe() = default;
  ~AddressProbe();
  AddressProbe(const AddressProbe&) = delete;
  AddressProbe& operator=(const AddressProbe&) = delete;

  bool started() const { return started_; }
  // Checked sockaddr_in or sockaddr_in6, both of one family. Once. An answer comes within 2 s.
  void start(const std::string& from, const std::string& to);
  // kReachable also when it cannot be known. Never blocks.
  Answer answer();

 private:
  void settle(Answer answer);

  bool started_ = false;
  rdma_event_channel* channel_ = nullptr;
  rdma_cm_id* id_ = nullptr;
  Answer answer_ = Answer::kNotYet;
};

}  // namespace cenote::fabric
