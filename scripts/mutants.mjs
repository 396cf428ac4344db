// Injected bugs and the tests that see them: npm run mutants [-- --only NAME]. The code is in test/mutants.
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runnerImport } from 'vite'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { module } = await runnerImport(join(root, 'test', 'mutants', 'run.ts'), { root, configFile: false, logLevel: 'error', oxc: { target: 'es2022' } })
process.exitCode = await module.main(process.argv.slice(2))
