/** `using` needs `Symbol.dispose`; engines that lack it get the symbol that TypeScript's helpers look for. */
if (Symbol.dispose === undefined) {
  Object.defineProperty(Symbol, 'dispose', { value: Symbol.for('Symbol.dispose') })
}

export {}
