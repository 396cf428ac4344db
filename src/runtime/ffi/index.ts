/** Which FFI package is used: koffi, or the ffi-napi fork where `WEFT_FFI=ffi-napi` asks for it. */
import { EnvironmentError } from '../errors.js'
import type { Ffi } from './bind.js'
import { loadFfiNapi } from './ffi-napi.js'
import { loadKoffi } from './koffi.js'

export { openLibrary, type Ffi, type Library } from './bind.js'
export { driverTable, emulatorTable, nvrtcTable, type Driver, type NvrtcFunctions } from './table.js'

export function defaultFfi(environment: NodeJS.ProcessEnv = process.env): Ffi {
  const wanted = environment['WEFT_FFI'] ?? 'koffi'
  if (wanted === '' || wanted === 'koffi') return loadKoffi()
  if (wanted === 'ffi-napi') return loadFfiNapi()
  throw new EnvironmentError('ffi-package', `WEFT_FFI=${wanted} names no FFI package that Weft knows`, { fix: 'use koffi or ffi-napi' })
}
