// cache/host_cache_shared.h - the Boost.Interprocess objects behind HostCache; included by its sources only.
#pragma once

#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>

#include "cache/host_cache.h"

namespace cenote::cache {

struct HostCache::Shared {
  boost::interprocess::file_mapping file;
  boost::interprocess::mapped_region control;  // Header, waiters, words.
  boost::interprocess::mapped_region data;
};

}  // namespace cenote::cache
