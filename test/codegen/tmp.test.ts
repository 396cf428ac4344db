import { it } from 'vitest'
import { writeFileSync } from 'node:fs'
import { emit, sourceText } from '../../src/codegen/emit/cuda.js'
import { selectKernel, type Form } from './select-kernels.js'
it('prints', () => {
  const forms: Form[] = [
    { name: 'plain' }, { name: 'pooled', pool: 7, k: 1024 }, { name: 'byScore', order: 'score' }, { name: 'byScoreFixed', order: 'score', k: 100, length: 3000 },
    { name: 'uncached', pool: 7, k: 1024, schedule: { cached: 0 } }, { name: 'fixed', pool: 7, length: 16384, k: 1024 }]
  for (const f of forms) { const e = emit(selectKernel(f)); writeFileSync(`/tmp/sel/${f.name}.body.cu`, e.text); writeFileSync(`/tmp/sel/${f.name}.cu`, sourceText([e], 'cuda')) }
})
