import { PGlite } from '@electric-sql/pglite';
import initdbWasm from '../../node_modules/@electric-sql/pglite/dist/initdb.wasm' with { type: 'file' };
import fileSystemBundle from '../../node_modules/@electric-sql/pglite/dist/pglite.data' with { type: 'file' };
import pgliteWasm from '../../node_modules/@electric-sql/pglite/dist/pglite.wasm' with { type: 'file' };

/**
 * Starts PGlite from files that are embedded in the binary, because it would look for them beside its own source. Without a template a new
 * database costs several seconds and 900 MB.
 */
export async function startPglite(options: {
  /** Where the database lives; absent: in memory. */
  readonly dataDirectory?: string;
  /** A prepared database for a new one to start from; must be absent for a directory that already holds one. */
  readonly template?: Blob;
}): Promise<PGlite> {
  const [pgliteWasmModule, initdbWasmModule] = await Promise.all([compile(pgliteWasm), compile(initdbWasm)]);
  return await PGlite.create({
    pgliteWasmModule,
    initdbWasmModule,
    fsBundle: Bun.file(fileSystemBundle),
    ...(options.dataDirectory === undefined ? {} : { dataDir: options.dataDirectory }),
    ...(options.template === undefined ? {} : { loadDataDir: options.template }),
  });
}

async function compile(path: string): Promise<WebAssembly.Module> {
  return await WebAssembly.compile(await Bun.file(path).arrayBuffer());
}
