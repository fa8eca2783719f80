"""The captioning task: texts that describe pictures."""

from __future__ import annotations

from collections.abc import Sequence

from elman.data.captions import read_captions
from elman.data.tokenizer import TokenKind
from elman.metrics.captions import normalize
from elman.metrics.pointing import read_boxes
from elman.tasks.caption.model import Captioner
from elman.tasks.caption.options import CaptionConfig
from elman.tasks.vision.examples import Found, Note
from elman.tasks.vision.task import VisionDefaults, VisionTask


class Caption(VisionTask):
    """Learn p(caption | picture)."""

    name = "caption"
    Config = CaptionConfig
    model_class = Captioner
    usage = "elman train caption captions.tsv --images photos --minutes 10"

    config: CaptionConfig

    @property
    def questions(self) -> bool:
        return False

    @property
    def writes(self) -> TokenKind:
        return self.config.tokens

    def found(self, data: Sequence[str]) -> list[Found]:
        c = self.config
        change = normalize if c.normalize else str.strip
        return [
            Found(
                one.image,
                "",
                change(one.caption),
                one.place,
                Note(boxes=tuple(read_boxes(one.boxes, one.place))),
                one.in_table,
            )
            for one in read_captions(data, c.image, c.caption, c.images, skip_bad=c.skip_bad)
        ]

    def defaults(self, pretrained: bool) -> VisionDefaults:
        if pretrained:
            return VisionDefaults(384, 0.4, 1e-3, 256, 384, 512)
        return VisionDefaults(128, 0.1, 2e-3, 64, 128, 700, weight_decay=0.3, input_feeding=True)

    def minutes(self, pretrained: bool, texts: int) -> float:
        """A minute for each 2,000 captions, from 2 to 15."""
        return min(15.0, max(2.0, texts / 2000))
