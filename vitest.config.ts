import { defineConfig } from 'vitest/config'
import { mutation } from './test/mutants/plugin.js'

const mutant = process.env['WEFT_MUTANT']   // see test/mutants/catalogue.ts

export default defineConfig({
  plugins: mutant === undefined ? [] : [mutation(mutant)],
  test: {
    include: ['test/**/*.test.ts'],
    // Emulated kernels install signal handlers and run on their own threads: processes, not worker threads.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
})
