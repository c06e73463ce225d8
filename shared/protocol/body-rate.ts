/** How fast the body of a request comes at least, in bytes per second: the server gives it so much more time, and the agent waits so much longer for its answer. */
export const BODY_BYTES_PER_SECOND: number = 16 * 1024;
