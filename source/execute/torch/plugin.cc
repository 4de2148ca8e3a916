#include "execute/plugin.h"
#include "execute/torch/engine.h"

extern "C" [[gnu::visibility("default")]] const cenote::execute::EnginePlugin cenote_engine_plugin = {
    .version = cenote::execute::kEnginePluginVersion, .open = &cenote::execute::open_torch_engine};
