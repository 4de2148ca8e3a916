# cmake -DGIT=git -DSOURCE=folder -DOUT=header -P WriteCommit.cmake: writes CENOTE_COMMIT, only if it changed.
set(commit "unknown")
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --dirty OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(found)
    set(commit "${found}")
  endif()
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define CENOTE_COMMIT \"${commit}\"\n")
