/** The optional ffi-napi fork, from this clone or from the folder that WEFT_FFI_NAPI_FROM names. */
import { join } from 'node:path'
import type { Ffi } from '../../src/runtime/ffi/bind.js'
import { loadFfiNapi } from '../../src/runtime/ffi/ffi-napi.js'

export function forkOrReason(): Ffi | string {
  const from = process.env['WEFT_FFI_NAPI_FROM'] ?? ''
  try {
    return loadFfiNapi(join(from === '' ? import.meta.dirname : from, 'from.js'))
  } catch (error) {
    console.warn('SKIPPED: the ffi-napi adapter. Install @2060.io/ffi-napi and @2060.io/ref-napi in a folder and set WEFT_FFI_NAPI_FROM to it')
    return error instanceof Error ? error.message : String(error)
  }
}
