"""The task of visual question answering: questions about pictures."""

from __future__ import annotations

from collections.abc import Sequence

from elman.data.tokenizer import TokenKind
from elman.data.visual_questions import read_visual_questions
from elman.metrics.pointing import read_boxes
from elman.tasks.vision.examples import Found, Note
from elman.tasks.vision.task import VisionDefaults, VisionTask
from elman.tasks.vqa.model import VisualAnswerer
from elman.tasks.vqa.options import VqaConfig


class Vqa(VisionTask):
    """Learn p(answer | picture, question)."""

    name = "vqa"
    Config = VqaConfig
    model_class = VisualAnswerer
    usage = "elman train vqa questions.tsv --images photos --minutes 5"

    config: VqaConfig

    @property
    def questions(self) -> bool:
        return True

    @property
    def writes(self) -> TokenKind:
        return "word"

    def found(self, data: Sequence[str]) -> list[Found]:
        c = self.config
        columns = (c.image, c.question, c.answer)
        return [
            Found(
                one.image,
                one.question,
                one.answer,
                one.place,
                Note(one.kind, one.answers, tuple(read_boxes(one.boxes, one.place))),
                one.in_table,
            )
            for one in read_visual_questions(data, columns, c.kind, c.images, skip_bad=c.skip_bad)
        ]

    def defaults(self, pretrained: bool) -> VisionDefaults:
        if pretrained:
            return VisionDefaults(256, 0.5, 2e-3, 256, 256, 1000, weight_decay=0.5)
        return VisionDefaults(128, 0.1, 2e-3, 128, 128, 3000)

    def minutes(self, pretrained: bool, texts: int) -> float:
        """A minute for each 5,000 questions, from 2 to 10; 2 for an encoder without pretrained weights."""
        return min(10.0, max(2.0, texts / 5000)) if pretrained else 2.0
