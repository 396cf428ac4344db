/** NVRTC for tests that need the real one: skipped loudly where it is absent, required in CI. */
import { describeMiss, findNvrtc } from '../../src/runtime/find.js'
import { openNvrtc, type Nvrtc } from '../../src/runtime/nvrtc.js'

/** NVRTC, or why these tests are skipped. */
export function nvrtcOrReason(): Nvrtc | string {
  const required = process.env['CI'] === 'true' || process.env['WEFT_REQUIRE_NVRTC'] === '1'
  const search = findNvrtc()
  if (search.chosen !== undefined || required) return openNvrtc()
  const bad = search.misses.filter((miss) => miss.reason !== 'absent').map(describeMiss)
  const reason = `NVRTC was not found${bad.length === 0 ? '' : ` (${bad.join('; ')})`}`
  console.warn(`SKIPPED: tests with NVRTC. ${reason}. Fix: npm run setup:nvrtc`)
  return reason
}
