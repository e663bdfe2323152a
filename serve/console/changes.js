// How a list differs from the one before it.

// By item id: {kind: "new" | "up" | "down" | "same", by: places moved}; and the items that left.
export function changesBetween(before, after) {
  const was = new Map(before.map((item, place) => [item.item_id, place]));
  const moved = new Map(after.map((item, place) => [item.item_id, move(was.get(item.item_id), place)]));
  return { moved, gone: before.filter((item) => !moved.has(item.item_id)) };
}

function move(before, place) {
  if (before === undefined) return { kind: "new", by: 0 };
  const by = before - place;
  return { kind: by > 0 ? "up" : by < 0 ? "down" : "same", by: Math.abs(by) };
}
