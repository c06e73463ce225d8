import { schemaDigest } from './migrations.ts';

/**
 * The template that is embedded in the binary, or that a build left beside the sources; undefined when there is none or, which only a build
 * can be, it is of another schema. The build must have made it before the binary is bundled (`buildPgliteTemplate`).
 */
export async function findPgliteTemplate(): Promise<Blob | undefined> {
  try {
    const { default: path } = await import('../../dist/pglite-template.tar.gz', { with: { type: 'file' } });
    // Beside the sources stands what the template was made from; in the binary there is no such file.
    const digestFile = Bun.file(`${path}.digest`);
    const isStale = (await digestFile.exists()) && (await digestFile.text()) !== schemaDigest();
    return isStale ? undefined : Bun.file(path);
  } catch {
    return undefined;
  }
}
