// cache/view_shared.h - the Boost.Interprocess objects behind CacheView; included by this room's sources only.
#pragma once

#include <boost/interprocess/file_mapping.hpp>
#include <boost/interprocess/mapped_region.hpp>

#include "cache/mapping.h"

namespace cenote::cache {

struct CacheView::Shared {
  boost::interprocess::file_mapping file;
  boost::interprocess::mapped_region waiters;
  boost::interprocess::mapped_region words;
};

}  // namespace cenote::cache
