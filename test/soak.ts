/** How much a test of endurance does: a sample, or with `WEFT_SOAK=1` all of it. */
export const soaking = process.env['WEFT_SOAK'] === '1'
export const often = (sample: number, all: number): number => (soaking ? all : sample)
