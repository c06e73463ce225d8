declare const PICKET_VERSION: string | undefined;
declare const PICKET_COMMIT: string | undefined;

/** Version and commit of the build; `dev` when run from source. */
export const VERSION = typeof PICKET_VERSION === 'undefined' ? 'dev' : PICKET_VERSION;
export const COMMIT = typeof PICKET_COMMIT === 'undefined' ? 'unknown' : PICKET_COMMIT;
/** The one build: processes that speak in a form of their own ask for it. */
export const BUILD = `${VERSION} (${COMMIT})`;
