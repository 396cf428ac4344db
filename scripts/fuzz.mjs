// Random programs for as long as one likes: npm run fuzz -- --count 10000 --seed 7. The code is in test/fuzz.
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runnerImport } from 'vite'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { module } = await runnerImport(join(root, 'test', 'fuzz', 'main.ts'), { root, configFile: false, logLevel: 'error', oxc: { target: 'es2022' } })
process.exitCode = await module.main(process.argv.slice(2))
