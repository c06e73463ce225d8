import { z } from 'zod';

/** The most that one page of a list holds. */
export const MAX_PAGE = 1000;

/** How lists are answered: `next` is the cursor of the following page, or null. */
export function pageOf<T extends z.ZodType>(item: T) {
  return z.object({ items: z.array(item), next: z.string().max(4096).nullable() });
}
