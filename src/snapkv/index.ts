/** `weft-tensor/snapkv`: cache compression for language models, written in the language. */
export { snapkvProgram } from './snapkv.js'
export type { SnapKVOptions } from './options.js'
export { findPreset, policyByName, presets, snapkv, type Preset } from './presets.js'
export {
  parseSettings, type Budget, type FloatDtype, type OptionSpec, type OptionTable, type Policy, type PolicyOutputs, type PolicyProgram,
  type PromptShape, type Settings,
} from './policy.js'
export { compressed, passUnchanged, promptOf, type Compressed, type Prompt, type PromptTensor, type PromptTensors } from './prompt.js'
export {
  compareNumbers, compareSelection, explainMismatch, relative, ulps, type Mismatch, type NumbersReport, type SelectionReport,
} from './compare.js'
