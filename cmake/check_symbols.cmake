# SPDX-License-Identifier: MIT
# cmake -DOBJECTS=a.o;b.o -DNM=nm -P check_symbols.cmake: fails if two objects define one symbol.
# Run it on a Debug build: where everything is inlined, nothing shows.
foreach(object IN LISTS OBJECTS)
  execute_process(
    COMMAND ${NM} --defined-only --extern-only --format=posix ${object}
    OUTPUT_VARIABLE output COMMAND_ERROR_IS_FATAL ANY
  )
  string(REGEX MATCHALL "[^\n]+" lines "${output}")
  list(LENGTH lines count)
  message(STATUS "${object}: ${count} symbols")
  foreach(line IN LISTS lines)
    string(REGEX REPLACE " .*" "" symbol "${line}")
    # What the compilers need to unwind; no vector code.
    if(symbol MATCHES "^(__clang_call_terminate|DW\\.ref\\.__gxx_personality_v0)$")
      continue()
    endif()
    if(DEFINED seen_${symbol})
      message(SEND_ERROR "${symbol} is defined by both ${seen_${symbol}} and ${object}")
    endif()
    set(seen_${symbol} ${object})
  endforeach()
endforeach()
