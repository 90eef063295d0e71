from alembic import op

from caravan.kit.tables import create_tables

revision = "kit0001"
down_revision = None


def upgrade():
    create_tables(op)
