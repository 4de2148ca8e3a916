// A fabric_target as a child process: for what only a process can do - be killed, be stopped, use CPU time of its own.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>

#include "fabric/transport.h"

namespace cenote::fabric {

class TargetProcess {
 public:
  // Returns when the target serves. Aborts if `program` cannot be run.
  TargetProcess(const std::string& program, const std::string& provider, uint16_t port, size_t region_bytes);
  ~TargetProcess();  // Ends and reaps it.
  TargetProcess(const TargetProcess&) = delete;

  const Address& address() const { return address_; }
  uint16_t port() const;  // Of an IPv4 address.
  RegionKey readable() const { return readable_; }
  RegionKey writable() const { return writable_; }
  void signal(int number);
  void kill_and_reap();
  Duration cpu_time() const;

 private:
  pid_t pid_ = -1;
  int input_ = -1;  // Its standard input: it ends with us.
  Address address_;
  RegionKey readable_;
  RegionKey writable_;
};

}  // namespace cenote::fabric
