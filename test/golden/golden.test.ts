/** Golden kernels: their text, their number, what NVRTC makes of them, and that sizes of data are not part of them. */
import { describe, expect, test } from 'vitest'
import { sourceText } from '../../src/codegen/emit/cuda.js'
import { nvrtcOrReason } from '../runtime/nvrtc-here.js'
import { goldens, kernelsOf, preset } from './programs.js'

const nvrtc = nvrtcOrReason()
const archs = ['sm_80', 'sm_90a', 'sm_100', 'sm_120']

describe.each(goldens.map(g => ({ ...g, golden: g, emitted: kernelsOf(g) })))('$name', ({ name, golden, emitted, kernels }) => {
  test('has the text it had', async () => {
    await expect(emitted.map(k => k.text).join('\n')).toMatchFileSnapshot(`./${name}.cu`)
  })
  test(`is at most ${kernels} kernel${kernels === 1 ? '' : 's'} of about 170 lines at most`, () => {
    expect(emitted.length).toBeLessThanOrEqual(kernels)
    for (const k of emitted) expect(k.text.split('\n').filter(line => !line.includes('#pragma')).length, k.name).toBeLessThanOrEqual(175)
    expect(emitted.map(k => k.text).join('')).not.toMatch(/#include|asm/)
  })
  test.skipIf(typeof nvrtc === 'string')('compiles without spills for all architectures', { timeout: 120_000 }, async () => {
    if (typeof nvrtc === 'string') return
    const lines: string[] = []
    for (const arch of archs) {
      const images = await Promise.all(kernelsOf(golden, arch).map(k => nvrtc.compile({ text: sourceText([k], 'cuda'), arch, name: `${k.name}.cu` })))
      for (const r of images.flatMap(i => i.resources)) {
        lines.push(`${arch.padEnd(8)}${r.name.padEnd(24)}${r.registers} registers`)
        expect(r.spillStores + r.spillLoads, `${r.name} for ${arch} spills`).toBe(0)
      }
    }
    console.log(`${name}\n${lines.join('\n')}`)
  })
})

test('a prompt of another length has the same kernels', () => {
  for (const name of ['snapkv', 'snapkv-official', 'snapkv-kvpress']) {
    const text = (length: number): string => kernelsOf(preset(name, length)).map(k => k.text).join('\n')
    expect(text(1100)).toBe(text(16384))
    // Rows that selection evaluates several times are pooled beforehand.
    expect(text(70000)).toBe(text(120000))
  }
})
