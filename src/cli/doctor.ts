/** `weft doctor`: what works here, and what to do about the rest. */
import { doctor, renderDoctor } from '../runtime/doctor.js'
import type { Arguments } from './arguments.js'
import { clearProgress, progress, say } from './output.js'

export async function run(given: Arguments): Promise<number> {
  progress('trying every device')
  const report = await doctor()
  clearProgress()
  say(given.flag('json') ? JSON.stringify(report, undefined, 2) : renderDoctor(report, { verbose: given.flag('verbose') }))
  // The report says 1 where no kernel can run: that is this machine's set-up, not a failed check of a result.
  return report.exitCode === 0 ? 0 : 3
}
