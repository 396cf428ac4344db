import { it } from 'vitest'
import { readFileSync, writeFileSync } from 'node:fs'
import { openNvrtc } from '../../src/runtime/nvrtc.js'
it('nvrtc', async () => {
  const n = openNvrtc()
  for (const f of (process.env.F ?? '').split(' ')) for (const arch of ['sm_80', 'sm_90a', 'sm_120']) {
    const r = await n.compile({ text: readFileSync(`/tmp/sel/${f}.cu`, 'utf8'), arch })
    writeFileSync(`/tmp/sel/${f}.${arch}.cubin`, r.image)
    console.log(f, arch, JSON.stringify(r.resources), r.log.split('\n').filter(l => /warning|error/.test(l)).join('|'))
  }
})
